"""Scores of folders of maps: the field's measures, computed by its own library in a process pool.

The numbers are those of `pysodmetrics` (see `evaluation.pysod`). Which variants Table 1 of the paper prints is
inferred from the tables of the methods that it compares: adaptive F, weighted F with beta^2 = 1, MAE, adaptive E.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from tqdm import tqdm

from data.image_io import read_mask
from evaluation.map_files import MapError, ScorePair, read_map
from evaluation.pysod import Array, measure
from utils.errors import UserError

CHUNK = 8  # maps that a worker gets at a time
WORTH_A_POOL = 100  # for fewer maps, starting processes costs more than it saves
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of a worker: one each


@dataclass(frozen=True)
class Measures:
    """The measures of one map, or of a data set: all in 0..1; `mae` is to be small, the others large.

    Of one map, mean and max F and E are taken over the map's own curve. Of a data set, the curves of all maps
    are averaged first, as the field does; so its `maxf` is not the mean of the maps' `maxf`.
    """

    mae: float
    sm: float
    wfm: float
    adpf: float
    meanf: float
    maxf: float
    adpe: float
    meane: float
    maxe: float
    msiou: float


KEYS: tuple[str, ...] = tuple(field.name for field in fields(Measures))
LOWER_IS_BETTER = frozenset({"mae"})
LABELS: dict[str, str] = {
    "mae": "MAE",
    "sm": "S (alpha=0.5)",
    "wfm": "weighted F (beta^2=1)",
    "adpf": "adaptive F (beta^2=0.3)",
    "meanf": "mean F (beta^2=0.3)",
    "maxf": "max F (beta^2=0.3)",
    "adpe": "adaptive E",
    "meane": "mean E",
    "maxe": "max E",
    "msiou": "adaptive MSIoU (boundary recall)",
}
"""What each measure is called in tables: name and variant."""

BOUNDARY_NOTE = (
    "Adaptive MSIoU, as the library defines it, is the share of the mask's boundary that the map's boundary meets, "
    "averaged over cells of 1 to 512 pixels. Boundaries where there is no object cost nothing: read it beside the "
    "other measures."
)
"""What the boundary measure does not see."""

MEANS = ("mae", "sm", "wfm", "adpf", "adpe", "msiou")
"""Measures whose data-set value is the mean over the maps; the others are read off the averaged curves."""


@dataclass(frozen=True)
class PairScores:
    """The measures of one map. `peak` is its largest value, 0..255."""

    name: str
    measures: Measures
    peak: int


@dataclass(frozen=True)
class Curves:
    """Means over a data set at the thresholds 0..255; a pixel of the stretched map is salient from there on.

    Shapes:
        precision, recall, f, e: (256,).
    """

    precision: Array
    recall: Array
    f: Array
    e: Array


@dataclass(frozen=True)
class DatasetScores:
    """A method's measures on a data set, and those of every map.

    Shapes:
        image_f, image_e: (N, 256) float32: the F and the E curve of every map, in the order of `rows`.
            Intervals and tests of the measures that are read off averaged curves need them.
    """

    measures: Measures
    curves: Curves
    rows: tuple[PairScores, ...]
    image_f: NDArray[np.float32]
    image_e: NDArray[np.float32]


class ScoredMap(NamedTuple):
    """One map's row and its curves, (4, 256): precision, recall, F, E."""

    row: PairScores
    curves: Array


def score_pair(saliency: NDArray[np.uint8], mask: NDArray[np.uint8], name: str = "") -> ScoredMap:
    """Measures of one map.

    Args:
        saliency: (H, W), 0..255; stretched to its own range before measuring, as the field's tools do.
        mask: (H, W), 0..255; foreground above 128.
        name: goes into the row.

    Raises:
        MapError: the two sizes differ.
    """
    if saliency.shape != mask.shape:
        raise MapError(
            f"{name}: the map has {_size(saliency)} pixels, the mask {_size(mask)}. "
            "Write maps at the size of the mask, or let them be resized (evaluate.py --resize-maps). Where the mask "
            "does not fit its own picture, mend the mask (python -m data.check DIR names such)."
        )
    numbers = measure(saliency, mask)._asdict()
    curves = numbers.pop("curves")
    return ScoredMap(PairScores(name, _complete(curves, numbers), int(saliency.max(initial=0))), curves)


def score_maps(
    pairs: Sequence[ScorePair], workers: int | None = None, resize: bool = False, title: str = "scoring"
) -> DatasetScores:
    """Measures of a folder of maps.

    Pictures are read inside the workers and only numbers come back, so memory does not grow with the
    pictures. The result does not depend on the number of workers.

    Args:
        pairs: maps and masks, as `evaluation.map_files.pair_maps` gives them.
        workers: processes. None: one for each core that may be used, or none beside this one for a few maps.
        resize: brings a map of another size to its mask's (bilinear, then 8 bits), as the field's toolkit
            does. Otherwise that is an error.
        title: stands before the progress bar.

    Raises:
        MapError: nothing to score; maps or masks that cannot be read or differ in size, all of them listed;
            or maps that are all black but for values of 1, as when floats in 0..1 are saved as bytes.
    """
    if not pairs:
        raise MapError("nothing to score: no pair of a map and a mask was given.")
    folder = os.path.commonpath([pair.map_path.parent for pair in pairs])
    rows: list[PairScores] = []
    problems: list[str] = []
    image_f, image_e = (np.empty((len(pairs), 256), np.float32) for _ in range(2))
    total = np.zeros((4, 256))
    for result in tqdm(_results(pairs, workers, resize), title, len(pairs), unit="map", disable=None):
        if isinstance(result, str):
            problems.append(result)
            continue
        image_f[len(rows)], image_e[len(rows)] = result.curves[2:]
        total += result.curves
        rows.append(result.row)
    if problems:
        raise MapError("\n  ".join([f"{folder}: {len(problems)} of {len(pairs)} maps cannot be scored:", *problems]))
    if all(row.peak <= 1 for row in rows):
        raise MapError(
            f"{folder}: no map has a value above 1 of 255, as when floats in 0..1 are saved as bytes, or bytes in "
            "16-bit files. Save round(255 * map) in 8 bits."
        )
    return _data_set(rows, total / len(rows), image_f, image_e)


def _data_set(
    rows: Sequence[PairScores], curves: Array, image_f: NDArray[np.float32], image_e: NDArray[np.float32]
) -> DatasetScores:
    means = {key: float(np.mean([getattr(row.measures, key) for row in rows])) for key in MEANS}
    return DatasetScores(_complete(curves, means), Curves(*curves), tuple(rows), image_f, image_e)


def _complete(curves: Array, means: dict[str, float]) -> Measures:
    """Adds to `means` what is read off the curves, (4, 256)."""
    f, e = curves[2], curves[3]
    read = {"meanf": f.mean(), "maxf": f.max(), "meane": e.mean(), "maxe": e.max()}
    return Measures(**means, **{key: float(value) for key, value in read.items()})


def _results(pairs: Sequence[ScorePair], workers: int | None, resize: bool) -> Iterator[ScoredMap | str]:
    """What each pair gave, in order: its numbers, or the reason why there are none."""
    if workers is None:
        workers = usable_cores() if len(pairs) >= WORTH_A_POOL else 1
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    if workers == 1:
        return chain.from_iterable(_score_chunk(chunk, resize) for chunk in chunks)
    return _pooled(chunks, workers, resize)


def _pooled(chunks: Sequence[Sequence[ScorePair]], workers: int, resize: bool) -> Iterator[ScoredMap | str]:
    """The chunks' results in order. This process is one of the workers: it scores while the others still start.

    loky's processes are fresh ones, so they are safe beside threads, and they do not import the calling script (and
    PyTorch with it).
    """
    executor = get_reusable_executor(max_workers=workers - 1, env=dict.fromkeys(_THREADS, "1"))
    todo = deque(enumerate(chunks))
    waiting: dict[int, Future[list[ScoredMap | str]]] = {}
    done: dict[int, list[ScoredMap | str]] = {}
    try:
        for number in range(len(chunks)):
            while number not in done:
                while todo and len(waiting) < 2 * (workers - 1):
                    given, chunk = todo.popleft()
                    waiting[given] = executor.submit(_score_in_worker, chunk, resize)
                if todo:
                    own, chunk = todo.popleft()
                    done[own] = _score_chunk(chunk, resize)
                elif number in waiting:
                    waiting[number].result()
                for given in [given for given, future in waiting.items() if future.done()]:
                    done[given] = waiting.pop(given).result()
            yield from done.pop(number)
    except TerminatedWorkerError as error:
        raise MapError("a scoring process was killed, perhaps for want of memory. Use fewer workers.") from error
    finally:
        for future in waiting.values():
            future.cancel()


def _score_in_worker(pairs: Sequence[ScorePair], resize: bool) -> list[ScoredMap | str]:
    cv2.setNumThreads(1)
    return _score_chunk(pairs, resize)


def _score_chunk(pairs: Sequence[ScorePair], resize: bool) -> list[ScoredMap | str]:
    return [_score(pair, resize) for pair in pairs]


def _score(pair: ScorePair, resize: bool) -> ScoredMap | str:
    try:
        saliency, mask = read_map(pair.map_path), read_mask(pair.mask_path)
        if mask.max(initial=0) == 1:
            raise MapError(f"{pair.mask_path}: holds 0 and 1, but foreground is what is above 128. Save 0 and 255.")
        if resize and saliency.shape != mask.shape:
            saliency = cv2.resize(saliency, mask.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        return score_pair(saliency, mask, pair.name)
    except UserError as error:
        return str(error)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size(picture: NDArray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
