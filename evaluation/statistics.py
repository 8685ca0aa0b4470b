"""How sure a score is: bootstrap intervals, paired tests between methods, and their correction.

Images are the units. All measures are resampled together, with one set of resamples for all methods of a
dataset, so that the interval of a difference needs no resampling of its own. Max F and max E are not means
over images: for every resample the curves are averaged again and the maximum is taken anew.

Sources: BCa intervals: Efron, "Better bootstrap confidence intervals", JASA 82 (1987). Correction: Holm, "A simple
sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri  # scipy.stats has them too, and takes a second to import

from evaluation.measures import MAXIMA
from evaluation.metrics import DatasetScores
from evaluation.pysod import Array
from utils.errors import UserError

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK = 500  # resamples at a time: bounds memory


@dataclass(frozen=True)
class Resampled:
    """Measures of a dataset (or their differences between two methods) and what resampling made of them.

    Columns are the M measures, in the order of `DatasetScores.measures`.

    Shapes:
        values: (M,).
        replicates: (R, M), one row per bootstrap resample.
        jackknife: (N, M), with one image left out each.
    """

    values: Array
    replicates: Array
    jackknife: Array

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The differences; both must come from the same images, resamples and seed."""
        return Resampled(
            self.values - other.values, self.replicates - other.replicates, self.jackknife - other.jackknife
        )

    def intervals(self, level: float = LEVEL) -> Array:
        """BCa intervals: percentiles of the replicates, corrected for bias and for skewness.

        Shapes:
            returns: (M, 2), low and high.
        """
        replicates, values = self.replicates, self.values
        below = ((replicates < values).mean(axis=0) + (replicates <= values).mean(axis=0)) / 2
        bias = ndtri(np.clip(below, 1e-6, 1 - 1e-6))
        pull = self.jackknife.mean(axis=0) - self.jackknife
        spread = (pull**2).sum(axis=0) ** 1.5
        skew = (pull**3).sum(axis=0) / (6 * np.where(spread > 0, spread, np.inf))
        ends = ndtri([(1 - level) / 2, (1 + level) / 2])[:, None] + bias  # (2, M)
        ranks = ndtr(bias + ends / (1 - skew * ends))
        columns = [np.quantile(column, rank) for column, rank in zip(replicates.T, ranks.T, strict=True)]
        return np.array(columns)


def resample(scores: DatasetScores, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Bootstraps a method's scores on a dataset.

    Raises:
        UserError: fewer than two images.
    """
    count = len(scores.rows)
    if count < 2:
        raise UserError(f"an interval needs at least two images, there is {count}. Ask for none (--resamples 0).")
    images = _Images.of(scores)
    draws = _draws(count, resamples, seed)
    replicates = np.concatenate([images.measures(block) for block in draws])
    everything = images.measures(np.ones((1, count), np.float32))[0]
    return Resampled(everything, replicates, images.without_each())


def swap_test(first: DatasetScores, second: DatasetScores, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Paired permutation test: the two methods' results are swapped on random images.

    Args:
        first, second: of the same images in the same order.

    Shapes:
        returns: (M,), two-sided p of every measure, at least 1 / (resamples + 1).

    Raises:
        UserError: the images differ.
    """
    if [row.name for row in first.rows] != [row.name for row in second.rows]:
        raise UserError("a paired test needs both methods on the same images; these are not the same.")
    one, two = _Images.of(first), _Images.of(second)
    keep = np.ones((1, len(first.rows)), np.float32)
    observed = np.abs(one.swapped(two, keep)[0])
    rng = np.random.default_rng(seed)
    extreme = np.zeros(len(first.measures))
    for size in _blocks(resamples):
        signs = rng.integers(0, 2, (size, len(first.rows))).astype(np.float32) * 2 - 1
        # What is equal but for rounding counts as extreme: the p value must not be too small.
        extreme += (np.abs(one.swapped(two, signs)) >= observed - 1e-7).sum(axis=0)
    return (extreme + 1) / (resamples + 1)


def holm(p: Sequence[float] | Array) -> Array:
    """Adjusts p values so that the chance of any false rejection among them stays at the level.

    Shapes:
        p, returns: (M,).
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


@dataclass(frozen=True)
class _Images:
    """What every image adds to the measures: (N, M - 2) for those that are means, (N, 256) F and E curves."""

    keys: tuple[str, ...]
    linear: NDArray[np.float32]
    f: NDArray[np.float32]
    e: NDArray[np.float32]

    @classmethod
    def of(cls, scores: DatasetScores) -> "_Images":
        keys = tuple(scores.measures)
        linear = [[row.measures[key] for key in keys if key not in MAXIMA] for row in scores.rows]
        return cls(keys, np.array(linear, np.float32), scores.image_f, scores.image_e)

    def measures(self, weights: NDArray[np.float32]) -> Array:
        """(R, N) weights that sum to N each -> (R, M) measures of the images so weighted."""
        count = weights.shape[1]
        means = (weights @ table / count for table in (self.linear, self.f, self.e))
        return self._in_order(*means)

    def without_each(self) -> Array:
        """(N, M): the measures without the first image, without the second, ..."""
        tables = [table.astype(np.float64) for table in (self.linear, self.f, self.e)]
        return self._in_order(*((table.sum(axis=0) - table) / (len(table) - 1) for table in tables))

    def swapped(self, other: "_Images", signs: NDArray[np.float32]) -> Array:
        """(R, N) signs, -1 where the two methods change places -> (R, M) differences of the measures."""
        count = signs.shape[1]
        linear = signs @ (self.linear - other.linear) / count
        curves = [_peak_difference(a, b, signs) for a, b in ((self.f, other.f), (self.e, other.e))]
        return self._ordered(linear, *curves)

    def _in_order(self, linear: NDArray, f: NDArray, e: NDArray) -> Array:
        """(R, M - 2) means and (R, 256) mean curves -> (R, M)."""
        return self._ordered(linear, f.max(axis=1), e.max(axis=1))

    def _ordered(self, linear: NDArray, maxf: NDArray, maxe: NDArray) -> Array:
        means = iter(linear.T)
        maxima = {"maxf": maxf, "maxe": maxe}
        columns = [maxima[key] if key in maxima else next(means) for key in self.keys]
        return np.stack(columns, axis=1).astype(np.float64)


def _peak_difference(a: NDArray, b: NDArray, signs: NDArray) -> NDArray:
    """Maximum of the first mean curve minus that of the second, after the swaps: (R,)."""
    total, difference = (a + b).mean(axis=0), signs @ (a - b) / len(a)  # (256,), (R, 256)
    return ((total + difference).max(axis=1) - (total - difference).max(axis=1)) / 2


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each image is drawn, (block, N), for all resamples."""
    rng = np.random.default_rng(seed)
    for size in _blocks(resamples):
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float32)


def _blocks(total: int) -> Iterator[int]:
    yield from (min(_BLOCK, total - start) for start in range(0, total, _BLOCK))
