"""Tables of docs/search.md that set cells beside cells: half of the cost, without dilation, and likeness in a group."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from evaluation.tables.writer import Table, markdown
from nas.compare_settings import PUBLISHED, UNDILATED
from nas.evidence import COLUMNS, Training
from nas.evidence_statistics import CELLS, family_of
from nas.watch import agreement
from net.genotype import Genotype, operations_of

HALVES = ("effects_half", "effects_half_again", "oneshot_half")


def half_table(rows: Sequence[Training]) -> str:
    """Trainings of cells at half of the decoder's multiply-adds, beside the published ones with the same seed."""
    published = {row.training_seed: row for row in rows if (row.group, row.genotype) == (PUBLISHED, "resnet50")}
    halves = sorted(
        (row for row in rows if row.group in HALVES), key=lambda row: (row.group, row.genotype, row.training_seed)
    )
    if not published or not halves:
        return "None has been trained yet."
    lines = []
    for row in [*published.values(), *halves]:
        cells = [_beside(row, published.get(row.training_seed), column) for column in COLUMNS]
        lines.append([f"{row.group} {row.genotype}", str(row.training_seed), f"{row.gmac:.3f}", *cells])
    for group in dict.fromkeys(row.group for row in halves if row.training_seed == 0 and 0 in published):
        mine = [row for row in halves if (row.group, row.training_seed) == (group, 0)]
        means = [_mean_beside(mine, published[0], column) for column in COLUMNS]
        lines.append([f"{group}, mean of {len(mine)}", "0", f"{fmean(row.gmac for row in mine):.3f}", *means])
    return markdown(Table(["cells", "seed", "GMAC", *(f"{name} weighted F" for name in COLUMNS.values())], lines))


def dilation_table(rows: Sequence[Training]) -> str:
    """Each genotype without its dilated operations, less itself: the same cost and the same training seed."""
    by_key = {row.key: row for row in rows}
    lines, gains = [], []
    for row in rows:
        group, _, name = row.genotype.partition("_")
        before = by_key.get((group, name, row.training_seed))
        if row.group != UNDILATED or before is None:
            continue
        pairs = [(getattr(row, column), getattr(before, column)) for column in COLUMNS]
        gains.append([own - other if own is not None and other is not None else np.nan for own, other in pairs])
        lines.append([f"{group} {name}", str(before.dilated), *(f"{gain:+.4f}" for gain in gains[-1])])
    if len(gains) < 2:
        return "Fewer than two genotypes have been trained both ways."
    table = np.array(gains)  # (genotypes, datasets)
    errors = table.std(0, ddof=1) / len(table) ** 0.5
    mean = [f"{value:+.4f} ± {error:.4f}" for value, error in zip(table.mean(0), errors, strict=True)]
    heads = ["cells", "dilated before", *(f"{name} weighted F less" for name in COLUMNS.values())]
    return markdown(Table(heads, [*lines, ["mean ± standard error", "", *mean]]))


def likeness_table(rows: Sequence[Training], genotypes: Mapping[tuple[str, str], Genotype]) -> str:
    """How alike the genotypes of a group are, and how many of their edges have convolutions and dilated operations."""
    lines = []
    for group in dict.fromkeys(row.group for row in rows):
        names = dict.fromkeys(row.genotype for row in rows if row.group == group)
        mine = [genotypes[group, name] for name in names]
        if len(mine) < 2:
            continue
        alike = [31 * agreement(*pair) for pair in combinations(mine, 2)]
        lines.append([
            group, str(len(mine)), f"{fmean(alike):.1f} ({min(alike):.0f} to {max(alike):.0f})",
            *(_counted(mine, family, cell) for family in ("convolution", "dilated") for cell in CELLS),
        ])  # fmt: skip
    if not lines:
        return "No group has two genotypes yet."
    heads = ["cells", "genotypes", "equal operations of 31 in pairs, mean (range)"]
    heads += [f"{family}, cell {cell}" for family in ("convolutions", "dilated") for cell in CELLS]
    return markdown(Table(heads, lines))


def _counted(genotypes: Sequence[Genotype], family: str, cell: int) -> str:
    """Mean number of edges of a cell whose operation is of the family."""
    counts = [
        sum(edge.cell == cell and family_of(name) == family for edge, name in operations_of(one)) for one in genotypes
    ]
    return f"{fmean(counts):.1f}"


def _beside(row: Training, other: Training | None, column: str) -> str:
    """A score, and how much it exceeds that of another training where there is one."""
    own, theirs = getattr(row, column), getattr(other, column, None)
    if own is None:
        return "not scored"
    return f"{own:.4f}" if theirs is None or other is row else f"{own:.4f} ({own - theirs:+.4f})"


def _mean_beside(rows: Sequence[Training], other: Training, column: str) -> str:
    """The mean score, and how much it exceeds that of another training."""
    scores, theirs = [getattr(row, column) for row in rows], getattr(other, column)
    if theirs is None or None in scores:
        return "not scored"
    return f"{fmean(scores):.4f} ({fmean(scores) - theirs:+.4f})"
