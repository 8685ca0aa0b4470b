"""Differences between groups of genotypes, taken within a training seed only.

A training seed shifts every genotype (by .0054 weighted F on PASCAL-S-100 between seeds 0 and 1 of
benchmarks/compare_lite). Means of groups that were trained with different seeds can therefore not be compared.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Trainings = Mapping[str, Mapping[int, float]]
"""Genotype -> training seed -> score."""


class Difference(NamedTuple):
    """Mean of one group less that of another.

    Attributes:
        value: the difference; NaN if the groups have no training seed in common.
        error: standard error; NaN if these trainings do not determine it.
        seeds: that both groups were trained with.
    """

    value: float
    error: float
    seeds: tuple[int, ...]


def common_seeds(*groups: Trainings) -> tuple[int, ...]:
    """Training seeds that every genotype of every group has, in their order."""
    every = [set(seeds) for group in groups for seeds in group.values()]
    return tuple(sorted(set.intersection(*every))) if every else ()


def difference(group: Trainings, other: Trainings, noise: float) -> Difference:
    """Mean of a group less that of another, over the training seeds that both have.

    A genotype counts once, by the mean of its trainings. The error is Welch's over genotypes. A group of one genotype
    has no spread of its own. Its error is the noise of its trainings: that of this genotype's score, not that of the
    score of another genotype of its kind.

    Args:
        group, other: scores of the trainings, at least one genotype each.
        noise: standard deviation between trainings of one genotype, see `training_noise`; NaN if unknown.
    """
    seeds = common_seeds(group, other)
    if not seeds:
        return Difference(np.nan, np.nan, ())
    means, squares = [], []
    for one in (group, other):
        values = [float(np.mean([scores[seed] for seed in seeds])) for scores in one.values()]
        means.append(np.mean(values))
        squares.append(np.var(values, ddof=1) / len(values) if len(values) > 1 else noise**2 / len(seeds))
    return Difference(float(means[0] - means[1]), float(np.sqrt(sum(squares))), seeds)


def training_noise(groups: Sequence[Trainings]) -> float:
    """Standard deviation between trainings of one genotype, less the shift that a seed gives all genotypes.

    The residual of score = genotype + seed, by least squares over the genotypes with two trainings or more.

    Returns:
        NaN if no such residual has a degree of freedom.
    """
    repeated = [scores for group in groups for scores in group.values() if len(scores) > 1]
    seeds = sorted({seed for scores in repeated for seed in scores})
    rows, values = [], []
    for place, scores in enumerate(repeated):
        for seed, score in scores.items():
            row = np.zeros(len(repeated) + len(seeds))
            row[place] = row[len(repeated) + seeds.index(seed)] = 1
            rows.append(row)
            values.append(score)
    if not rows:
        return float("nan")
    design, observed = np.array(rows), np.array(values)  # (trainings, genotypes + seeds), (trainings,)
    freedom = len(observed) - int(np.linalg.matrix_rank(design))
    if freedom < 1:
        return float("nan")
    residual = observed - design @ np.linalg.lstsq(design, observed, rcond=None)[0]
    return float(np.sqrt(residual @ residual / freedom))
