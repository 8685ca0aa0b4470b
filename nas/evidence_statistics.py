"""Statistics of the evidence: groups against the pool at equal multiply-adds, rank correlations, worth of operations.

Genotypes are the units: each counts once, by the mean of its trainings with the seeds that both groups have.
Sources: permutation of residuals: Freedman and Lane, J. Business & Economic Statistics 1 (1983). Partial Kendall tau:
Kendall, Biometrika 32 (1942).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from nas.genotype_space import names_of
from net.genotype import Genotype, operations_of
from net.wiring import Edge

Array = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.95


class Effect(NamedTuple):
    """Score of a group less that of the pool at equal multiply-adds: value, ends of its 95 % interval, p."""

    value: float
    low: float
    high: float
    p: float


class RankCorrelation(NamedTuple):
    """Kendall's tau, ends of its 95 % bootstrap interval, and the number of genotypes."""

    tau: float
    low: float
    high: float
    genotypes: int


class Repeatability(NamedTuple):
    """How far the training of one genotype with another seed gives the same score again.

    Attributes:
        correlation: of the scores of two seeds over genotypes.
        low, high: ends of its 95 % interval.
        genotype: standard deviation between genotypes, without that of their trainings; 0 if none is left.
        training: standard deviation between trainings of one genotype, less the shift of the seed.
    """

    correlation: float
    low: float
    high: float
    genotype: float
    training: float

    @property
    def share(self) -> float:
        """Of the variance of a single training: what the genotype decides."""
        whole = self.genotype**2 + self.training**2
        return self.genotype**2 / whole if whole > 0 else 0.0


def repeatability(first: Array, second: Array) -> Repeatability:
    """Of the scores of the same genotypes with two training seeds; the interval is Fisher's.

    Score = genotype + seed + training. The covariance of the two seeds is the variance of the genotypes, half the
    variance of their difference that of the trainings.

    Shapes:
        first, second: (N,), four genotypes or more.

    Raises:
        ValueError: if there are fewer than four genotypes, or all scores of a seed are alike.
    """
    count = len(first)
    if count < 4 or not (np.ptp(first) and np.ptp(second)):
        raise ValueError(f"{count} genotypes: a correlation needs four that differ")
    covariance = np.cov(first, second)
    correlation = float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    turned, reach = np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12)), ndtri((1 + LEVEL) / 2) / (count - 3) ** 0.5
    low, high = np.tanh([turned - reach, turned + reach])
    training = float(np.std(first - second, ddof=1) / 2**0.5)
    return Repeatability(correlation, float(low), float(high), float(max(covariance[0, 1], 0) ** 0.5), training)


def effect_at_equal_cost(group: Array, group_cost: Array, pool: Array, pool_cost: Array, seed: int = 0) -> Effect:
    """Effect of belonging to the group in score = a + b * cost + effect * group, by least squares.

    The interval is Student's. The p value is two-sided, from permutations of the residuals of score = a + b * cost.

    Shapes:
        group, group_cost: (N,); pool, pool_cost: (M,).

    Raises:
        ValueError: if there are fewer than four genotypes, or membership and cost are one and the same.
    """
    score, cost = np.concatenate([group, pool]), np.concatenate([group_cost, pool_cost])
    count = len(score)
    if count < 4 or not len(group) or not len(pool):
        raise ValueError(f"{len(group)} genotypes against {len(pool)}: the effect needs four, at least one in each.")
    member = np.concatenate([np.ones(len(group)), np.zeros(len(pool))])
    reduced = np.stack([np.ones(count), cost - cost.mean()], 1)
    if np.ptp(cost) < 1e-9 * max(abs(cost.mean()), 1e-300):
        reduced = reduced[:, :1]  # equal costs determine no slope
    projector = np.eye(count) - reduced @ np.linalg.pinv(reduced)
    own = projector @ member  # membership less what cost explains of it
    if own @ own < 0.1 * len(group) * len(pool) / count:
        raise ValueError("the group's cost is so far from the pool's that their effects can't be separated")
    residual = projector @ score
    value = own @ residual / (own @ own)
    freedom = count - reduced.shape[1] - 1
    rest = residual - value * own
    error = np.sqrt(rest @ rest / freedom / (own @ own)) if freedom > 0 else np.inf
    reach = stdtrit(freedom, (1 + LEVEL) / 2) * error if freedom > 0 else np.inf
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(residual) for _ in range(RESAMPLES)])  # (R, N)
    others = shuffled @ projector @ own / (own @ own)
    extreme = int((np.abs(others) >= abs(value) - 1e-12).sum())
    return Effect(float(value), float(value - reach), float(value + reach), (extreme + 1) / (RESAMPLES + 1))


def rank_correlation(first: Array, second: Array, given: Array | None = None, seed: int = 0) -> RankCorrelation:
    """Kendall's tau-b of two scores of the same genotypes; the partial one where a third variable is given.

    Shapes:
        first, second, given: (N,).
    """
    count = len(first)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, count, count) for _ in range(1000)]
    taus = np.array([_tau(first[d], second[d], None if given is None else given[d]) for d in draws])
    low, high = np.nanquantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return RankCorrelation(_tau(first, second, given), float(low), float(high), count)


def _tau(first: Array, second: Array, given: Array | None) -> float:
    pair = kendall(first, second)
    if given is None:
        return pair
    one, other = (kendall(values, given) for values in (first, second))
    below = np.sqrt((1 - one**2) * (1 - other**2))
    return (pair - one * other) / below if below > 0 else float("nan")


def kendall(first: Array, second: Array) -> float:
    """Kendall's tau-b of two scores of the same genotypes, (N,) each."""
    from scipy.stats import kendalltau  # takes a second to import, and a search rarely needs it

    return float(np.asarray(kendalltau(first, second))[0])


def detectable(noise: float, group: int, pool: int) -> float:
    """The least difference of means that a two-sided test at .05 finds with a chance of .8, in the unit of `noise`.

    Args:
        noise: standard deviation between genotypes at equal cost.
        group, pool: numbers of genotypes.
    """
    reach = float(ndtri(0.975) + ndtri(0.8))
    return reach * noise * (1 / group + 1 / pool) ** 0.5


def noise_at_equal_cost(scores: Array, cost: Array) -> float:
    """Standard deviation between genotypes around the line score = a + b * cost; (N,), (N,) -> number.

    Raises:
        ValueError: if there are fewer than three genotypes.
    """
    if len(scores) < 3:
        raise ValueError(f"{len(scores)} genotypes, a line and a spread need three or more")
    design = np.stack([np.ones(len(cost)), cost], 1)
    residual = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    return float(np.sqrt(residual @ residual / (len(scores) - 2)))


def best_of(values: Sequence[float], draws: int) -> float:
    """Expected maximum of `draws` values drawn from these without putting any back."""
    ordered = np.sort(np.asarray(values, np.float64))
    count, draws = len(ordered), min(draws, len(values))
    ways = np.cumprod([1.0, *((count - draws - k) / (count - 1 - k) for k in range(count - draws))])
    # The k-th greatest is the maximum with the chance that the draw holds it and none that is greater.
    chances = draws / count * ways
    return float((chances * ordered[::-1][: len(chances)]).sum())


SITES = tuple((cell, kind) for cell in (1, 2, 3) for kind in ("outer", "inner"))
"""Where an operation may stand: cell and kind of edge."""


CELLS = (1, 2, 3)


def family_of(operation: str) -> str:
    """`dilated`, `attention` or `convolution`, for any number of layers; the own name of any other operation."""
    if operation.startswith("dil_"):
        return "dilated"
    if operation.endswith("Attention"):
        return "attention"
    return "convolution" if "conv" in operation else operation


def count_features(genotypes: Sequence[Genotype], cost: Array, operations: Sequence[str]) -> Array:
    """How often each operation occurs at each of the `SITES`, and the multiply-adds.

    Shapes:
        cost: (N,); returns: (N, sites * operations + 1).
    """
    columns = [(site, name) for site in SITES for name in operations]
    return _counted(genotypes, cost, columns, lambda edge, name: ((edge.cell, edge.kind), name))


def family_features(genotypes: Sequence[Genotype], cost: Array, families: Sequence[str]) -> Array:
    """How often each family of operations occurs in each of the `CELLS`, and the multiply-adds.

    Shapes:
        cost: (N,); returns: (N, cells * families + 1).
    """
    columns = [(cell, family) for cell in CELLS for family in families]
    return _counted(genotypes, cost, columns, lambda edge, name: (edge.cell, family_of(name)))


def _counted(
    genotypes: Sequence[Genotype], cost: Array, columns: Sequence[Any], column_of: Callable[[Edge, str], Any]
) -> Array:
    rows = []
    for genotype, macs in zip(genotypes, cost, strict=True):
        placed = Counter(column_of(edge, name) for edge, name in operations_of(genotype))
        rows.append([*(float(placed[column]) for column in columns), float(macs)])
    return np.array(rows)


def used_operations(genotypes: Sequence[Genotype]) -> list[str]:
    """Operations that occur, by name."""
    return sorted({name for genotype in genotypes for name in names_of(genotype)})
