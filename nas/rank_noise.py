"""What noise leaves of a correlation between supernets and trainings, and which edge decides a score.

Sources: correction for the noise of both sides: Spearman, "The proof and measurement of association between two
things", American Journal of Psychology 15 (1904). Noise of a mean of several: Spearman and Brown (1910). Tau of normal
scores: Greiner's relation, 2/pi arcsin(r).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from nas.evidence_statistics import LEVEL, Array

RESAMPLES = 1000


class Corrected(NamedTuple):
    """Correlations over genotypes.

    Attributes:
        supernets: of two supernets, on average.
        trainings: of two trainings with different seeds.
        single: of one supernet and one training, on average.
        mean: of the supernets' mean and one training.
        value: `mean` without the noise of supernets and trainings; not a number if either repeats nothing.
        low, high: ends of its 95 % bootstrap interval over genotypes.
    """

    supernets: float
    trainings: float
    single: float
    mean: float
    value: float
    low: float
    high: float


def corrected(supernets: Array, first: Array, second: Array, seed: int = 0) -> Corrected:
    """Correlation of supernets and trainings without the noise of either.

    Shapes:
        supernets: (S, N), two or more.
        first, second: (N,), trainings with two seeds; not a number where a genotype lacks the second.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    count = len(first)
    draws = [rng.integers(0, count, count) for _ in range(RESAMPLES)]
    values = np.array([_parts(supernets[:, draw], first[draw], second[draw])[-1] for draw in draws])
    values = values[np.isfinite(values)] if np.isfinite(values).any() else values
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Corrected(*_parts(supernets, first, second), float(low), float(high))


def _parts(supernets: Array, first: Array, second: Array) -> tuple[float, float, float, float, float]:
    number = len(supernets)
    twice = np.isfinite(second)
    between = float(np.mean([_correlation(*pair) for pair in combinations(supernets, 2)]))
    trainings = _correlation(first[twice], second[twice])
    single = float(np.mean([_correlation(one, first) for one in supernets]))
    mean = _correlation(supernets.mean(0), first)
    kept = number * between / (1 + (number - 1) * between) * trainings
    return between, trainings, single, mean, mean / kept**0.5 if kept > 0 else float("nan")


def _correlation(first: Array, second: Array) -> float:
    if len(first) < 3 or not (np.ptp(first) and np.ptp(second)):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def tau_of(correlation: float) -> float:
    """Kendall's tau of two normal scores with that correlation."""
    return float(2 / np.pi * np.arcsin(np.clip(correlation, -1, 1)))


def share_between(values: Array, labels: Sequence[str]) -> float:
    """Share of the variance of the values, (N,), that the means of the labelled groups have; 0 to 1."""
    return float(_shares(values[None], labels)[0])


def greatest_share_by_chance(values: Array, labels: Sequence[Sequence[str]], seed: int = 0) -> float:
    """What the greatest `share_between` of several labellings exceeds in one of twenty permutations of the values."""
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(values) for _ in range(RESAMPLES)])
    return float(np.quantile(np.max([_shares(shuffled, at) for at in labels], 0), LEVEL))


def _shares(values: Array, labels: Sequence[str]) -> Array:
    """`share_between` of several sets of values: (R, N) -> (R,)."""
    names = sorted(set(labels))
    member = np.array([[float(label == name) for name in names] for label in labels])  # (N, groups)
    centred = values - values.mean(1, keepdims=True)
    between = ((centred @ member) ** 2 / member.sum(0)).sum(1)
    whole = (centred**2).sum(1)
    return np.divide(between, whole, out=np.zeros_like(between), where=whole > 0)
