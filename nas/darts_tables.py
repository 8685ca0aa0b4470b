"""Tables of docs/search.md on the strategy `darts`: what each remedy is worth, and which seed decides what is found."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluation.tables.writer import Table, markdown
from nas.evidence import COLUMNS, Training, genotype_file, read_mixtures
from nas.evidence_statistics import LEVEL
from nas.mixtures import correlation
from nas.watch import agreement
from net.genotype import load

BASE = "darts"
REMEDIES = {
    "darts_mixture": "warm-up by the mixture instead of single paths",
    "darts_outputs": "alphas follow P1 + P2 + P3 instead of P1",
    "darts_minus": "with the additional skip of DARTS-",
    "darts_temperature": "a temperature of 1 throughout instead of one that falls to a half",
    "darts_full": "all channels instead of a quarter",
    "darts_second": "second order instead of first",
}
"""Group whose searches differ from those of `darts` by one thing -> that thing."""
SEEDS = {
    "order of the images": "darts_order",
    "augmentation": "darts_augment",
}
"""What differs from the search by `darts` with the same seed -> group."""
STARTS = "darts_start"
"""Group whose searches differ from each other in their start alone."""


def remedies_table(rows: Sequence[Training]) -> str:
    """What changes when one thing in `darts` is different: scores of the cells that searches with one seed found."""
    base = _by_search_seed(rows, BASE)
    lines = []
    for group, change in REMEDIES.items():
        others = _by_search_seed(rows, group)
        seeds = sorted(set(base) & set(others))
        if len(seeds) < 2:
            continue
        cells = [_difference(base, others, seeds, lambda row, name=name: getattr(row, name)) for name in COLUMNS]
        cost = np.mean([others[seed].gmac - base[seed].gmac for seed in seeds])
        lines.append([change, str(len(seeds)), f"{cost:+.3f}", *cells])
    if not lines:
        return "No variant of `darts` has been trained with two search seeds yet."
    heads = ["change", "searches", "GMAC less", *(f"{name} weighted F less [95 %]" for name in COLUMNS.values())]
    return markdown(Table(heads, lines))


def _by_search_seed(rows: Sequence[Training], group: str) -> dict[int, Training]:
    mine = [row for row in rows if row.group == group and row.training_seed == 0]
    return {row.search_seed: row for row in mine if row.search_seed is not None}


def _difference(
    base: Mapping[int, Training],
    others: Mapping[int, Training],
    seeds: Sequence[int],
    read: Callable[[Training], float | None],
) -> str:
    """Mean over the search seeds of what the other cells have more, with Student's interval."""
    pairs = [(read(others[seed]), read(base[seed])) for seed in seeds]
    gains = np.array([other - own for other, own in pairs if other is not None and own is not None])
    if len(gains) < 2:
        return "not scored"
    reach = stdtrit(len(gains) - 1, (1 + LEVEL) / 2) * gains.std(ddof=1) / len(gains) ** 0.5
    return f"{gains.mean():+.4f} [{gains.mean() - reach:+.4f}, {gains.mean() + reach:+.4f}]"


def seeds_table(evidence: Path) -> str:
    """How alike two searches by `darts` end that differ in one seed: their mixtures, and the operations they choose."""
    base = read_mixtures(evidence, BASE)
    lines = []
    for what, group in SEEDS.items():
        others = read_mixtures(evidence, group)
        both = sorted(set(base) & set(others))
        lines += _line(evidence, what, [((BASE, seed, base[seed]), (group, seed, others[seed])) for seed in both])
    starts = _pairs_within(read_mixtures(evidence, STARTS), STARTS)
    lines += _line(evidence, "start of the supernet, paths of its warm-up", starts)
    lines += _line(evidence, "all of it", _pairs_within(base, BASE))
    if not lines:
        return "No two searches by `darts` have been kept yet."
    heads = ["what differs", "pairs", "correlation of the mixtures, mean (range)", "equal operations of 31, mean"]
    return markdown(Table(heads, lines))


_Search = tuple[str, int, NDArray[np.float64]]


def _pairs_within(mixtures: Mapping[int, NDArray[np.float64]], group: str) -> list[tuple[_Search, _Search]]:
    return list(combinations([(group, seed, mixture) for seed, mixture in sorted(mixtures.items())], 2))


def _line(evidence: Path, what: str, pairs: Sequence[tuple[_Search, _Search]]) -> list[list[str]]:
    if not pairs:
        return []
    alike = [correlation(one[2], other[2]) for one, other in pairs]
    chosen = [[load(genotype_file(evidence, group, str(seed))) for group, seed, _ in pair] for pair in pairs]
    same = np.mean([31 * agreement(*pair) for pair in chosen])
    spread = f"{np.mean(alike):+.2f} ({min(alike):+.2f} to {max(alike):+.2f})"
    return [[what, str(len(pairs)), spread, f"{same:.1f}"]]
