"""Tables of docs/search.md on rankings: supernets against trainings, and a short budget against a long one."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from evaluation.tables.writer import Table, markdown
from nas.compare_settings import RANDOM
from nas.evidence import COLUMNS, SupernetScore, Training
from nas.evidence_statistics import (
    Array,
    RankCorrelation,
    family_of,
    kendall,
    rank_correlation,
)
from nas.rank_noise import corrected, greatest_share_by_chance, share_between, tau_of
from net.genotype import Genotype, operations_of

LEAST = 30
"""Genotypes that a rank correlation needs before the page shows it as a finding."""
ONESHOT = "oneshot"
"""Group whose supernets are judged for noise; those of the other groups are the same."""
EDGES = 3
"""Edges that the table of edges shows."""


def ranks_table(rows: Sequence[Training], scores: Sequence[SupernetScore]) -> str:
    """Kendall's tau between supernets' scores and the trained score of the pool, plain and given the cost.

    Each supernet alone, then the mean of those of a group, and how far two of them agree.
    """
    trained = {f"{RANDOM}_{row.genotype}": row for row in rows if row.group == RANDOM and row.training_seed == 0}
    lines, notes = [], []
    for group in dict.fromkeys(one.group for one in scores):
        judged: dict[int, dict[str, SupernetScore]] = {}
        for one in scores:
            if one.group == group and one.genotype in trained:
                judged.setdefault(one.search_seed, {})[one.genotype] = one
        judged = {seed: found for seed, found in sorted(judged.items()) if len(found) > 2}
        lines += [[group, str(seed), *_ranked([found], list(found), trained)] for seed, found in judged.items()]
        common = sorted(set.intersection(*map(set, judged.values()))) if len(judged) > 1 else []
        if len(common) < 3:
            continue
        lines.append([group, f"mean of {len(judged)}", *_ranked(list(judged.values()), common, trained)])
        tables = [np.array([found[name].score for name in common]) for found in judged.values()]
        agreed = np.mean([kendall(*pair) for pair in combinations(tables, 2)])
        notes.append(f"Two supernets of `{group}` agree on these genotypes with a tau of {agreed:+.2f} on average.")
    if not lines:
        return "No supernet has scored three trained genotypes yet."
    heads = ["supernet", "search seed", "genotypes", "tau of the score [95 %]", "partial tau given GMAC",
             "tau of the prediction [95 %]"]  # fmt: skip
    return "\n\n".join([markdown(Table(heads, lines)), *notes])


def _ranked(
    supernets: Sequence[Mapping[str, SupernetScore]], names: Sequence[str], trained: Mapping[str, Training]
) -> list[str]:
    """Number of genotypes, and tau with the trained scores: of the supernets' mean score, and of their predictions."""
    rows = [trained[name] for name in names]
    scores, predicted = (
        np.array([fmean(getattr(one[name], what) for one in supernets) for name in names])
        for what in ("score", "predicted")
    )
    reached, cost = np.array([row.wfm_validation for row in rows]), np.array([row.gmac for row in rows])
    few = "" if len(rows) >= LEAST else f", fewer than {LEAST}"
    found = (
        rank_correlation(scores, reached), rank_correlation(scores, reached, cost), rank_correlation(predicted, reached)
    )  # fmt: skip
    return [f"{len(rows)}{few}", *map(_interval, found)]


def limits_table(rows: Sequence[Training], scores: Sequence[SupernetScore]) -> str:
    """How much of the low rank correlation is the noise of supernets and of trainings, on each dataset."""
    table, names = _supernets(scores, {row.genotype for row in rows if row.group == RANDOM and row.training_seed == 0})
    lines = []
    for column, name in COLUMNS.items():
        first, second = (_trained(rows, names, column, seed) for seed in (0, 1))
        if len(table) < 2 or np.isnan(first).any() or np.isfinite(second).sum() < 4:
            continue
        found = corrected(table, first, second)
        lines.append([
            name, f"{found.supernets:+.2f}", f"{found.trainings:+.2f}", f"{found.single:+.2f}", f"{found.mean:+.2f}",
            f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]", f"{tau_of(found.value):+.2f}",
        ])  # fmt: skip
    if not lines:
        return "Needs two supernets that scored the pool, and four genotypes of it with two trainings."
    heads = [
        "weighted F", "two supernets", "two trainings", "a supernet and a training",
        f"the mean of {len(table)} supernets and a training", "without the noise of both [95 %]", "tau of that",
    ]  # fmt: skip
    return markdown(Table(heads, lines))


def edges_table(
    rows: Sequence[Training], scores: Sequence[SupernetScore], genotypes: Mapping[tuple[str, str], Genotype]
) -> str:
    """The edges whose family of operations decides most of what supernets agree on, and its share in training.

    Below it: the mean scores by family on the first of them.
    """
    table, names = _supernets(scores, {row.genotype for row in rows if row.group == RANDOM and row.training_seed == 0})
    if len(names) < 3:
        return "No supernet has scored three trained genotypes yet."
    seen, reached = table.mean(0), _trained(rows, names, "wfm_validation", 0)
    placed = [operations_of(genotypes[RANDOM, name]) for name in names]
    labels = {
        edge: [family_of(operations[place][1]) for operations in placed] for place, (edge, _) in enumerate(placed[0])
    }
    shares = {edge: (share_between(seen, at), share_between(reached, at)) for edge, at in labels.items()}
    order = sorted(shares, key=lambda edge: -shares[edge][0])[:EDGES]
    lines = [[str(edge), *(f"{share:.2f}" for share in shares[edge])] for edge in order]
    chance = [greatest_share_by_chance(values, list(labels.values())) for values in (seen, reached)]
    lines.append(["greatest of 31 by chance, 95 %", *(f"{value:.2f}" for value in chance)])
    units = [(values - values.mean()) / values.std() for values in (seen, reached)]
    families = "; ".join(
        f"{family} {', '.join(f'{part[[name == family for name in labels[order[0]]]].mean():+.1f}' for part in units)} "
        f"({labels[order[0]].count(family)} genotypes)"
        for family in sorted(set(labels[order[0]]))
    )
    heads = ["edge", f"share of the variance of {len(table)} supernets' mean score", "of the trained score"]
    return (
        f"{markdown(Table(heads, lines))}\n\nMean scores by family on `{order[0]}`, supernets and trained, in standard "
        f"deviations: {families}."
    )


def _supernets(scores: Sequence[SupernetScore], trained: set[str]) -> tuple[Array, list[str]]:
    """Scores of the pool by the supernets of `ONESHOT`, (supernets, genotypes), and the genotypes by name."""
    found: dict[int, dict[str, float]] = {}
    for one in scores:
        name = one.genotype.removeprefix(f"{RANDOM}_")
        if one.group == ONESHOT and name in trained:
            found.setdefault(one.search_seed, {})[name] = one.score
    names = sorted(set.intersection(*map(set, found.values()))) if found else []
    return np.array([[judged[name] for name in names] for judged in found.values()]), names


def _trained(rows: Sequence[Training], names: Sequence[str], column: str, seed: int) -> Array:
    """The scores of genotypes of the pool with a training seed, (genotypes,); not a number where there is none."""
    known = {row.genotype: getattr(row, column) for row in rows if row.group == RANDOM and row.training_seed == seed}
    return np.array([known.get(name) for name in names], np.float64)


def transfer_table(rows: Sequence[Training], longer: Sequence[Training]) -> str:
    """Weighted F of the genotypes that were trained with two budgets, and Kendall's tau between the two, held-out."""
    short = {row.key: row for row in rows}
    pairs = [(short[row.key], row) for row in longer if row.key in short]
    if len(pairs) < 3:
        return f"{len(pairs)} genotypes have been trained with both budgets; the table begins with three."
    heads = ["cells", "GMAC", "dilated", "held-out, short", "held-out, long", "ECSSD, long", "DUTS-TE, long"]
    lines = [
        [
            f"{one.group} {one.genotype}", f"{one.gmac:.3f}", str(one.dilated), f"{one.wfm_validation:.4f}",
            *("not scored" if (score := getattr(later, column)) is None else f"{score:.4f}" for column in COLUMNS),
        ]
        for one, later in sorted(pairs, key=lambda pair: -pair[1].wfm_validation)
    ]  # fmt: skip
    values = np.array([[one.wfm_validation for one in pair] for pair in pairs])  # (genotypes, budgets)
    found = rank_correlation(values[:, 0], values[:, 1])
    return f"{markdown(Table(heads, lines))}\n\nKendall's tau between both: {_interval(found)}, {len(pairs)} genotypes."


def _interval(found: RankCorrelation) -> str:
    return f"{found.tau:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
