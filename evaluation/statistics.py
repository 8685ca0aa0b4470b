"""How sure a score is: bootstrap intervals, paired tests between methods, and their correction.

Pictures are the units. All measures are resampled together, with one set of resamples for all methods of a
data set, so that the interval of a difference needs no resampling of its own. Max F and max E are not means
over pictures: for every resample the curves are averaged again and the maximum is taken anew.

Sources: BCa intervals: Efron, "Better bootstrap confidence intervals", JASA 82 (1987). Correction: Holm, "A simple
sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from evaluation.metrics import KEYS, DatasetScores
from evaluation.pysod import Array
from utils.errors import UserError

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK = 500  # resamples at a time: bounds memory
_LINEAR = tuple(key for key in KEYS if key not in ("maxf", "maxe"))  # means over the pictures


@dataclass(frozen=True)
class Resampled:
    """Measures of a data set (or their differences between two methods) and what resampling made of them.

    Columns are `evaluation.metrics.KEYS`.

    Shapes:
        values: (10,).
        replicates: (R, 10), one row per bootstrap resample.
        jackknife: (N, 10), with one picture left out each.
    """

    values: Array
    replicates: Array
    jackknife: Array

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The differences; both must come from the same pictures, resamples and seed."""
        return Resampled(
            self.values - other.values, self.replicates - other.replicates, self.jackknife - other.jackknife
        )

    def intervals(self, level: float = LEVEL) -> Array:
        """BCa intervals: percentiles of the replicates, corrected for bias and for skewness.

        Shapes:
            returns: (10, 2), low and high.
        """
        replicates, values = self.replicates, self.values
        below = ((replicates < values).mean(axis=0) + (replicates <= values).mean(axis=0)) / 2
        bias = norm.ppf(np.clip(below, 1e-6, 1 - 1e-6))
        pull = self.jackknife.mean(axis=0) - self.jackknife
        spread = (pull**2).sum(axis=0) ** 1.5
        skew = (pull**3).sum(axis=0) / (6 * np.where(spread > 0, spread, np.inf))
        ends = norm.ppf([(1 - level) / 2, (1 + level) / 2])[:, None] + bias  # (2, 10)
        ranks = norm.cdf(bias + ends / (1 - skew * ends))
        columns = [np.quantile(column, rank) for column, rank in zip(replicates.T, ranks.T, strict=True)]
        return np.array(columns)


def resample(scores: DatasetScores, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Bootstraps a method's scores on a data set.

    Raises:
        UserError: fewer than two pictures.
    """
    count = len(scores.rows)
    if count < 2:
        raise UserError(f"an interval needs at least two pictures, there is {count}. Ask for none (--resamples 0).")
    pictures = _Pictures.of(scores)
    draws = _draws(count, resamples, seed)
    replicates = np.concatenate([pictures.measures(block) for block in draws])
    everything = pictures.measures(np.ones((1, count), np.float32))[0]
    return Resampled(everything, replicates, pictures.without_each())


def swap_test(first: DatasetScores, second: DatasetScores, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Paired permutation test: the two methods' results are swapped on random pictures.

    Args:
        first, second: of the same pictures in the same order.

    Shapes:
        returns: (10,), two-sided p of every measure, at least 1 / (resamples + 1).

    Raises:
        UserError: the pictures differ.
    """
    if [row.name for row in first.rows] != [row.name for row in second.rows]:
        raise UserError("a paired test needs both methods on the same pictures; these are not the same.")
    one, two = _Pictures.of(first), _Pictures.of(second)
    keep = np.ones((1, len(first.rows)), np.float32)
    observed = np.abs(one.swapped(two, keep)[0])
    rng = np.random.default_rng(seed)
    extreme = np.zeros(len(KEYS))
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
class _Pictures:
    """What every picture adds to the measures: (N, 8) for those that are means, (N, 256) F and E curves."""

    linear: NDArray[np.float32]
    f: NDArray[np.float32]
    e: NDArray[np.float32]

    @classmethod
    def of(cls, scores: DatasetScores) -> "_Pictures":
        linear = [[getattr(row.measures, key) for key in _LINEAR] for row in scores.rows]
        return cls(np.array(linear, np.float32), scores.image_f, scores.image_e)

    def measures(self, weights: NDArray[np.float32]) -> Array:
        """(R, N) weights that sum to N each -> (R, 10) measures of the pictures so weighted."""
        count = weights.shape[1]
        means = (weights @ table / count for table in (self.linear, self.f, self.e))
        return _in_order(*means)

    def without_each(self) -> Array:
        """(N, 10): the measures without the first picture, without the second, ..."""
        tables = [table.astype(np.float64) for table in (self.linear, self.f, self.e)]
        return _in_order(*((table.sum(axis=0) - table) / (len(table) - 1) for table in tables))

    def swapped(self, other: "_Pictures", signs: NDArray[np.float32]) -> Array:
        """(R, N) signs, -1 where the two methods change places -> (R, 10) differences of the measures."""
        count = signs.shape[1]
        linear = signs @ (self.linear - other.linear) / count
        curves = [_peak_difference(a, b, signs) for a, b in ((self.f, other.f), (self.e, other.e))]
        return _ordered(linear, *curves)


def _in_order(linear: NDArray, f: NDArray, e: NDArray) -> Array:
    """(R, 8) means and (R, 256) mean curves -> (R, 10)."""
    return _ordered(linear, f.max(axis=1), e.max(axis=1))


def _ordered(linear: NDArray, maxf: NDArray, maxe: NDArray) -> Array:
    columns = dict(zip(_LINEAR, linear.T, strict=True)) | {"maxf": maxf, "maxe": maxe}
    return np.stack([columns[key] for key in KEYS], axis=1).astype(np.float64)


def _peak_difference(a: NDArray, b: NDArray, signs: NDArray) -> NDArray:
    """Maximum of the first mean curve minus that of the second, after the swaps: (R,)."""
    total, difference = (a + b).mean(axis=0), signs @ (a - b) / len(a)  # (256,), (R, 256)
    return ((total + difference).max(axis=1) - (total - difference).max(axis=1)) / 2


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each picture is drawn, (block, N), for all resamples."""
    rng = np.random.default_rng(seed)
    for size in _blocks(resamples):
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float32)


def _blocks(total: int) -> Iterator[int]:
    yield from (min(_BLOCK, total - start) for start in range(0, total, _BLOCK))
