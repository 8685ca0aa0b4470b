"""Scores of folders of maps, computed in a pool of processes. The numbers do not depend on the number of processes."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain

import cv2
import numpy as np
from loky import get_reusable_executor
from loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from data.masks import read_mask
from evaluation.map_files import MapError, ScorePair, read_map
from evaluation.measures import KEYS, Measure, registered
from evaluation.metrics import Curves, DatasetScores, PairScores, ScoredMap, dataset_measures, score_pair
from utils.errors import UserError
from utils.hardware import usable_cores

CHUNK = 8  # maps that a worker gets at a time
WORTH_A_POOL = 100  # for fewer maps, starting processes costs more than it saves
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of a worker: one each


def score_maps(
    pairs: Sequence[ScorePair], workers: int | None = None, resize: bool = False, title: str = "scoring"
) -> DatasetScores:
    """Measures of a folder of maps, the built-in and the registered ones.

    Images are read inside the workers and only numbers come back, so memory does not grow with the images.

    Args:
        pairs: maps and masks, as `evaluation.map_files.pair_maps` gives them.
        workers: processes. None: one for each core that may be used, or none beside this one for a few maps.
        resize: brings a map of another size to its mask's (bilinear, then 8 bits), as the field's toolkit
            does. Otherwise that is an error.
        title: of the progress bar.

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
    curves = total / len(rows)
    return DatasetScores(dataset_measures(rows, curves), Curves(*curves), tuple(rows), image_f, image_e)


class _Scorer:
    """Scores chunks of pairs, in this process or in a worker, which gets it with the registered measures."""

    def __init__(self, resize: bool, extra: Sequence[Measure]) -> None:
        self._resize, self._extra = resize, tuple(extra)

    def __call__(self, pairs: Sequence[ScorePair]) -> list[ScoredMap | str]:
        return [self._score(pair) for pair in pairs]

    def in_worker(self, pairs: Sequence[ScorePair]) -> list[ScoredMap | str]:
        cv2.setNumThreads(1)
        return self(pairs)

    def _score(self, pair: ScorePair) -> ScoredMap | str:
        """The numbers of a pair, or the reason why there are none."""
        try:
            saliency, mask = read_map(pair.map_path), read_mask(pair.mask_path, pair.coding)
            if self._resize and saliency.shape != mask.shape:
                saliency = cv2.resize(saliency, mask.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
            return score_pair(saliency, mask, pair.name, KEYS, self._extra)
        except UserError as error:
            return str(error)


def _results(pairs: Sequence[ScorePair], workers: int | None, resize: bool) -> Iterator[ScoredMap | str]:
    """What each pair gave, in order: its numbers, or the reason why there are none."""
    if workers is None:
        workers = usable_cores() if len(pairs) >= WORTH_A_POOL else 1
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    score = _Scorer(resize, registered())
    return chain.from_iterable(map(score, chunks)) if workers == 1 else _pooled(chunks, workers, score)


def _pooled(chunks: Sequence[Sequence[ScorePair]], workers: int, score: _Scorer) -> Iterator[ScoredMap | str]:
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
                    waiting[given] = executor.submit(score.in_worker, chunk)
                if todo:
                    own, chunk = todo.popleft()
                    done[own] = score(chunk)
                elif number in waiting:
                    waiting[number].result()
                for given in [given for given, future in waiting.items() if future.done()]:
                    done[given] = waiting.pop(given).result()
            yield from done.pop(number)
    except TerminatedWorkerError as error:
        raise MapError("a scoring process was killed, perhaps because memory ran out. Use fewer workers.") from error
    finally:
        for future in waiting.values():
            future.cancel()
