"""Paired comparisons of methods on the same images, as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import combinations

from evaluation.measures import label
from evaluation.metrics import DatasetScores
from evaluation.statistics import Resampled, holm, swap_test
from evaluation.tables.writer import Table, comma_separated, markdown

CORRECTION = (
    "Difference: first minus second method, with its 95 % BCa bootstrap interval. p: two-sided paired permutation "
    "test (the two results of an image change places). Adjusted: Holm's correction over all pairs of methods and all "
    "datasets of the measure. The smallest p of R permutations is 1 / (R + 1); R grows with the number of comparisons."
)
_SURE = 0.05
_RESOLUTION = 1e-4  # smaller p values are printed as below it


def enough_permutations(resamples: int, comparisons: int) -> int:
    """Permutations so that the smallest possible p stays significant after Holm's correction.

    The smallest p of R permutations is 1 / (R + 1). Among m comparisons of a measure it is significant if
    m / (R + 1) < .05; twice as many are drawn.

    Args:
        resamples: wanted at least.
        comparisons: of each measure: pairs of methods times datasets.
    """
    return max(resamples, round(2 * comparisons / _SURE)) if resamples else 0


@dataclass(frozen=True)
class Comparison:
    """One measure of two methods on one dataset.

    Args:
        key: a name of `evaluation.measures`.
        difference: `first` minus `second`.
        low, high: ends of its 95 % interval.
        p: two-sided, of the paired permutation test.
        adjusted: `p` after Holm's correction.
    """

    data_set: str
    first: str
    second: str
    key: str
    difference: float
    low: float
    high: float
    p: float
    adjusted: float


def compare(
    data_set: str,
    scores: Mapping[str, DatasetScores],
    resampled: Mapping[str, Resampled],
    resamples: int,
    seed: int = 0,
) -> list[Comparison]:
    """Every pair of methods on one dataset, every measure; not yet corrected (see `corrected`).

    Args:
        scores: method -> scores, of the same images.
        resampled: method -> `evaluation.statistics.resample` of them, with one seed.
        resamples: permutations.
    """
    found = []
    for first, second in combinations(scores, 2):
        p = swap_test(scores[first], scores[second], resamples, seed)
        difference = resampled[first] - resampled[second]
        ends = difference.intervals()
        found += [
            Comparison(data_set, first, second, key, *map(float, (difference.values[i], *ends[i], p[i], p[i])))
            for i, key in enumerate(scores[first].measures)
        ]
    return found


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Sets `adjusted`: Holm's correction within each measure, over all pairs of methods and all datasets."""
    adjusted: dict[int, float] = {}
    for key in dict.fromkeys(comparison.key for comparison in comparisons):
        places = [i for i, comparison in enumerate(comparisons) if comparison.key == key]
        p = holm([comparisons[i].p for i in places])
        adjusted |= dict(zip(places, map(float, p), strict=True))
    return [replace(comparison, adjusted=adjusted[i]) for i, comparison in enumerate(comparisons)]


def comparison_csv(comparisons: Sequence[Comparison]) -> str:
    """One line per comparison, with all digits."""
    return comma_separated([field.name for field in fields(Comparison)], map(astuple, comparisons))


def comparison_markdown(comparisons: Sequence[Comparison]) -> str:
    """A table; adjusted p below .05 in bold. Empty where there is one method only."""
    if not comparisons:
        return ""
    heads = ["dataset", "methods", "measure", "difference", "95 % interval", "p", "adjusted p"]
    rows = []
    for c in comparisons:
        names = f"{c.first} − {c.second}"  # noqa: RUF001 (a minus sign)
        adjusted = f"**{small(c.adjusted)}**" if c.adjusted < _SURE else small(c.adjusted)
        cells = [c.data_set, names, label(c.key), signed(c.difference), f"{signed(c.low)} to {signed(c.high)}"]
        rows.append([*cells, small(c.p), adjusted])
    return "\n".join(["### Methods compared image by image", "", markdown(Table(heads, rows, 3)), "", CORRECTION, ""])


def signed(value: float) -> str:
    """`+.012`: three decimals and the sign."""
    return f"{value:+.3f}".replace("0.", ".", 1)


def small(p: float) -> str:
    """A p value with as many digits as it has: `.37`, `.0041`, `< 0.0001`."""
    if p < _RESOLUTION:
        return f"< {_RESOLUTION:.4f}"
    return (f"{p:.2f}" if p >= 0.1 else f"{p:.4f}").removeprefix("0")
