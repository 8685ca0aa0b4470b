"""Scores of maps: of one map, and of a dataset from those of its maps.

The one place that turns maps into scores: training's validation, the comparison of genotypes, test.py and evaluate.py
use it with the same keys (`evaluation.measures`). Which variants Table 1 of the paper prints is inferred from the
tables of the methods that it compares: adaptive F, weighted F with beta^2 = 1, MAE, adaptive E.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.map_files import MapError
from evaluation.measures import KEYS, Measure, Values
from evaluation.pysod import Array, measure_map

BOUNDARY_NOTE = (
    "Adaptive MSIoU, as the library defines it, is the share of the mask's boundary that the map's boundary meets, "
    "averaged over cells of 1 to 512 pixels. Boundaries where there is no object cost nothing: read it beside the "
    "other measures."
)
"""What the boundary measure does not see."""


@dataclass(frozen=True)
class PairScores:
    """The measures of one map. `peak` is its largest value, 0..255."""

    name: str
    measures: Values
    peak: int


@dataclass(frozen=True)
class Curves:
    """Means over a dataset at the thresholds 0..255; a pixel of the stretched map is salient from there on.

    Shapes:
        precision, recall, f, e: (256,).
    """

    precision: Array
    recall: Array
    f: Array
    e: Array


@dataclass(frozen=True)
class DatasetScores:
    """A method's measures on a dataset, and those of every map.

    Shapes:
        image_f, image_e: (N, 256) float32: the F and the E curve of every map, in the order of `rows`.
            Intervals and tests of the measures that are read off averaged curves need them.
    """

    measures: Values
    curves: Curves
    rows: tuple[PairScores, ...]
    image_f: NDArray[np.float32]
    image_e: NDArray[np.float32]

    def subset(self, places: Sequence[int]) -> "DatasetScores":
        """The scores on some of the images. Its precision and recall are not known and are NaN."""
        rows = tuple(self.rows[place] for place in places)
        image_f, image_e = self.image_f[list(places)], self.image_e[list(places)]
        unknown = np.full(256, np.nan)
        f, e = (curves.mean(axis=0, dtype=np.float64) for curves in (image_f, image_e))
        curves = np.stack([unknown, unknown, f, e])
        return DatasetScores(dataset_measures(rows, curves), Curves(*curves), rows, image_f, image_e)


class ScoredMap(NamedTuple):
    """One map's row and its curves, (4, 256): precision, recall, F, E."""

    row: PairScores
    curves: Array


def score_pair(
    saliency: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    name: str = "",
    keys: Collection[str] = KEYS,
    extra: Sequence[Measure] = (),
) -> ScoredMap:
    """Measures of one map. Its mean and max F and E are taken over its own curve.

    Args:
        saliency: (H, W), 0..255; stretched to its own range before measuring, as the field's tools do.
        mask: (H, W), 0..255; foreground above 128.
        name: goes into the row.
        keys: the built-in measures that are wanted.
        extra: registered measures beside them.

    Raises:
        MapError: the two sizes differ.
        MeasureError: a registered measure fails.
    """
    if saliency.shape != mask.shape:
        raise MapError(
            f"{name}: the map has {_size(saliency)} pixels, the mask {_size(mask)}. Write maps at the size of the "
            "mask, or use evaluate.py --resize-maps. Mend masks that do not fit their image (python -m data.check)."
        )
    values, curves = measure_map(saliency, mask, keys, extra)
    return ScoredMap(PairScores(name, values, int(saliency.max(initial=0))), curves)


def score_batch(
    maps: NDArray[np.uint8], masks: NDArray[np.uint8], names: Iterable[str], keys: Collection[str] = KEYS
) -> list[ScoredMap]:
    """Measures of a batch of maps of one size.

    Shapes:
        maps, masks: (B, H, W), 0..255.
    """
    return [score_pair(*pair, keys) for pair in zip(maps, masks, names, strict=True)]


def summarise(scored: Sequence[ScoredMap]) -> Values:
    """The measures of a dataset: means over its maps; mean and max F and E of the averaged curves.

    The curves of all maps are averaged first, as the field does; so max F is not the mean of the maps' max F.

    Args:
        scored: at least one map; all with the same measures.
    """
    curves = np.mean([one.curves for one in scored], axis=0)
    return dataset_measures([one.row for one in scored], curves)


def dataset_measures(rows: Sequence[PairScores], curves: Array) -> Values:
    """As `summarise`, from rows and the averaged curves.

    Shapes:
        curves: (4, 256).
    """
    f, e = curves[2], curves[3]
    read = {"meanf": f.mean(), "maxf": f.max(), "meane": e.mean(), "maxe": e.max()}
    return {
        key: float(read[key]) if key in read else float(np.mean([row.measures[key] for row in rows]))
        for key in rows[0].measures
    }


def _size(image: NDArray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
