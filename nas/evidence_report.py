"""The tables of docs/search.md, from committed files only: `python search.py compare --report`.

The page has a pair of marks for each table, `<!-- table NAME -->` and `<!-- end -->`; the text between them is
replaced.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from evaluation.report.figures import COLOURS, rendered, styled
from evaluation.tables.writer import Table, markdown
from nas.budget_table import budget_table
from nas.cell_tables import dilation_table, half_table, likeness_table
from nas.compare_settings import HOMOGENEOUS, PUBLISHED, RANDOM, UNDILATED
from nas.darts_tables import BASE, REMEDIES, remedies_table, seeds_table
from nas.evidence import COLUMNS, SupernetScore, Training, genotypes_of, read_supernet, read_trainings
from nas.evidence_statistics import (
    CELLS,
    SITES,
    Effect,
    best_of,
    count_features,
    detectable,
    effect_at_equal_cost,
    family_features,
    family_of,
    noise_at_equal_cost,
    repeatability,
    used_operations,
)
from nas.linear_model import LinearModel, fit, left_out_predictions
from nas.matched import common_seeds
from nas.rank_tables import edges_table, limits_table, ranks_table, transfer_table
from nas.results import ResultsError, read_compared, write_tables
from net.genotype import Genotype
from utils.files import replace_bytes, replace_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "search.md"
EVIDENCE = ROOT / "benchmarks" / "search_evidence"
TRANSFER = ROOT / "benchmarks" / "search_transfer"
COMPARISONS = (ROOT / "benchmarks" / "compare_lite", ROOT / "benchmarks" / "compare_lite" / "remedies")
UNSEARCHED = (RANDOM, PUBLISHED, UNDILATED, HOMOGENEOUS)


def write_report(
    page: Path = PAGE,
    evidence: Path = EVIDENCE,
    comparisons: Sequence[Path] = COMPARISONS,
    smaller: Path = COMPARISONS[0] / "compare.json",
    transfer: Path = TRANSFER,
) -> list[Path]:
    """Writes the tables of the page, its figure, and those of the comparisons; returns the files.

    Raises:
        ResultsError: if the page lacks the marks of a table, or a file can't be read.
    """
    for folder in comparisons:
        write_tables(folder)
    rows, scores, longer = read_trainings(evidence), read_supernet(evidence), read_trainings(transfer)
    genotypes = genotypes_of(evidence)
    tables = {
        "state": state_of(rows, scores), "groups": groups_table(rows), "half": half_table(rows),
        "again": again_table(rows), "likeness": likeness_table(rows, genotypes),
        "dilation": dilation_table(rows), "longer dilation": dilation_table(longer),
        "repeat": repeat_table(rows), "ranks": ranks_table(rows, scores),
        "limits": limits_table(rows, scores), "edges": edges_table(rows, scores, genotypes),
        "effects": effects_table(rows, genotypes),
        "smaller": smaller_table(smaller), "transfer": transfer_table(rows, longer),
        "remedies": remedies_table(rows), "seeds": seeds_table(evidence), "budget": budget_table(genotypes),
    }  # fmt: skip
    text = page.read_text("utf-8")
    for name, table in tables.items():
        text = put(text, name, table, page)
    replace_text(page, text)
    figure = page.with_name("search_pareto.svg")
    if rows:
        replace_bytes(figure, rendered(draw_pareto(rows), "svg"))
    return [page, *([figure] if rows else []), *(folder / "compare.md" for folder in comparisons)]


def put(text: str, name: str, table: str, page: Path) -> str:
    """The text with the table between its marks.

    Raises:
        ResultsError: if the marks are missing.
    """
    marks = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise ResultsError(f"{page}: the marks of table {name} are missing. Add `<!-- table {name} -->` and an end.")
    return marks.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", text)


def smaller_table(path: Path) -> str:
    """Spread of the genotypes of an earlier comparison, and what groups of genotypes can detect with it.

    Raises:
        ResultsError: if its compare.json can't be read.
    """
    results = [one for one in read_compared(path) if one.seed == 0 and one.group != PUBLISHED]
    scores = np.array([one.scores["held-out"]["wfm"] for one in results])
    spread = noise_at_equal_cost(scores, np.array([one.gmac for one in results]))
    heads = ["genotypes a group", "random cells beside", "detectable weighted F"]
    lines = [[str(group), str(pool), f"{detectable(spread, group, pool):.4f}"]
             for group, pool in ((5, 5), (5, 40), (10, 40), (20, 40), (40, 40))]  # fmt: skip
    return (
        f"{len(results)} random and searched genotypes, training seed 0: standard deviation of held-out weighted F "
        f"{scores.std(ddof=1):.4f}, around the line by GMAC {spread:.4f}. With that spread a two-sided test at .05 "
        f"finds with a chance of .8:\n\n{markdown(Table(heads, lines, left=0))}"
    )


def state_of(rows: Sequence[Training], scores: Sequence[SupernetScore]) -> str:
    """A sentence: how much of the evidence there is."""
    counts = {group: len({row.genotype for row in rows if row.group == group}) for group in _groups(rows)}
    if not counts:
        return "`trainings.csv` has no row yet: the evidence has not been run."
    listed = ", ".join(f"{group} {count}" for group, count in counts.items())
    judged = len({(row.group, row.search_seed) for row in scores})
    return f"{len(rows)} trainings; genotypes by group: {listed}; searches whose supernet scored the pool: {judged}."


def groups_table(rows: Sequence[Training]) -> str:
    """Each group against the pool of random genotypes at equal multiply-adds, on each dataset."""
    heads = ["cells", "genotypes", "seeds", "GMAC", "dilated", "random cells above"]
    heads += [f"{name} weighted F less the pool's [95 %], p" for name in COLUMNS.values()]
    pool = [row for row in rows if row.group == RANDOM]
    lines = []
    for group, mine in [*_lines(rows).items(), *_together(rows)]:
        seeds = common_seeds(*(_scores(part, "wfm_validation") for part in (mine, pool)))
        # A genotype counts once, however often it was trained.
        each = {(row.group, row.genotype): row for row in mine}.values()
        size = [f"{np.mean([row.gmac for row in each]):.3f}", f"{np.mean([row.dilated for row in each]):.1f}"]
        cells = [_versus_pool(mine, pool, column, seeds) for column in COLUMNS]
        above = _random_above(mine, pool, seeds)
        lines.append([group, str(len(each)), " ".join(map(str, seeds)) or "none in common", *size, above, *cells])
    if not lines:
        return "No trainings yet."
    whole = common_seeds(_scores(pool, "wfm_validation"))
    means = _means([row for row in pool if row.training_seed in whole], "wfm_validation")
    note = ""
    if len(means) > 7:
        best = best_of([value for _, value in means], 8)
        note = f"\n\nExpected best of 8 random genotypes by held-out weighted F: {best:.4f}."
    return markdown(Table(heads, lines)) + note


def again_table(rows: Sequence[Training]) -> str:
    """Groups against the pool, over the genotypes that have training seeds 0 and 1: each seed alone, then both."""
    pool = _twice([row for row in rows if row.group == RANDOM])
    beside = len({row.genotype for row in pool})
    lines = []
    for group, trained in _lines([row for row in rows if row.group != RANDOM]).items():
        mine = _twice(trained)
        count = len({row.genotype for row in mine})
        if count < (1 if trained[0].group == HOMOGENEOUS else 3) or beside < 3:
            continue
        for seeds in ((0,), (1,), (0, 1)):
            cells = [_versus_pool(mine, pool, column, seeds) for column in COLUMNS]
            lines.append([group, " and ".join(map(str, seeds)), str(count), _random_above(mine, pool, seeds), *cells])
    if not lines:
        return "No group and the pool have three genotypes each that were trained with two seeds."
    heads = ["cells", "training seed", "genotypes", "random cells above"]
    return markdown(
        Table([*heads, *(f"{name} weighted F less the pool's [95 %], p" for name in COLUMNS.values())], lines)
    )


def _twice(rows: Sequence[Training]) -> list[Training]:
    """The trainings with seeds 0 and 1 of the genotypes that have both."""
    seeds = {row.genotype: {other.training_seed for other in rows if other.genotype == row.genotype} for row in rows}
    return [row for row in rows if row.training_seed in (0, 1) and seeds[row.genotype] >= {0, 1}]


def _random_above(mine: Sequence[Training], pool: Sequence[Training], seeds: Sequence[int]) -> str:
    """How many random genotypes have a greater held-out score than the group has on average."""
    own, others = (
        [value for _, value in _means([row for row in part if row.training_seed in seeds], "wfm_validation")]
        for part in (mine, pool)
    )
    if not own or mine[0].group == RANDOM:
        return ""
    return f"{sum(value > np.mean(own) for value in others)} of {len(others)}"


def _versus_pool(mine: Sequence[Training], pool: Sequence[Training], column: str, seeds: Sequence[int]) -> str:
    group = [(cost, value) for cost, value in _means([row for row in mine if row.training_seed in seeds], column)]
    others = [(cost, value) for cost, value in _means([row for row in pool if row.training_seed in seeds], column)]
    if not group or not others:
        return "not scored"
    level = float(np.mean([value for _, value in group]))
    if mine[0].group == RANDOM:
        return f"{level:.4f} (mean)"
    if len(group) + len(others) < 4:
        return f"{level:.4f}; too few genotypes"
    (costs, values), (pool_costs, pool_values) = (np.array(part).T for part in (group, others))
    try:
        found: Effect = effect_at_equal_cost(values, costs, pool_values, pool_costs)
    except ValueError:
        return f"{level:.4f} (mean); another cost than the pool"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}], {found.p:.4f}"


def repeat_table(rows: Sequence[Training]) -> str:
    """What a second training of the pool's genotypes, with another seed, has in common with the first."""
    pool = [row for row in rows if row.group == RANDOM]
    lines = []
    for column, name in COLUMNS.items():
        scores = _scores(pool, column)
        twice = [by_seed for by_seed in scores.values() if {0, 1} <= set(by_seed)]
        first, second = (np.array([by_seed[seed] for by_seed in twice]) for seed in (0, 1))
        if len(twice) < 4:
            continue
        found = repeatability(first, second)
        every = [by_seed[0] for by_seed in scores.values() if 0 in by_seed]
        gain = found.share * (best_of(every, 8) - float(np.mean(every)))
        lines.append([
            name, str(len(twice)), f"{found.correlation:+.2f} [{found.low:+.2f}, {found.high:+.2f}]",
            f"{found.genotype:.4f}", f"{found.training:.4f}", f"{np.mean(second - first):+.4f}", f"{gain:+.4f}",
        ])  # fmt: skip
    if not lines:
        return "Fewer than four genotypes of the pool have been trained with two seeds."
    heads = ["weighted F", "genotypes", "correlation of two seeds [95 %]", "spread of genotypes", "of trainings",
             "second seed less first", "gain of the best of 8"]  # fmt: skip
    return markdown(Table(heads, lines))


def effects_table(rows: Sequence[Training], genotypes: Mapping[tuple[str, str], Genotype]) -> str:
    """What one more edge is worth at equal multiply-adds: by family and cell, and by operation and site.

    From cells that were not chosen by scores, with training seed 0.
    """
    kept = [row for row in rows if row.training_seed == 0 and row.group in UNSEARCHED]
    if len(kept) < 10:
        return f"{len(kept)} trainings with seed 0; the linear model is shown from 10 on."
    chosen = [genotypes[row.group, row.genotype] for row in kept]
    cost = np.array([row.gmac for row in kept])
    scores = np.array([row.wfm_validation for row in kept])
    operations = used_operations(chosen)
    families = sorted({family_of(name) for name in operations})
    coarse, fine = family_features(chosen, cost, families), count_features(chosen, cost, operations)
    pool = [place for place, row in enumerate(kept) if row.group == RANDOM]
    told = [np.corrcoef(left_out_predictions(part[pool], scores[pool]), scores[pool])[0, 1] for part in (coarse, fine)]
    return "\n\n".join([
        _worth(fit(coarse, scores), families, [f"cell {cell}" for cell in CELLS], "family"),
        _worth(fit(fine, scores), operations, [f"cell {cell} {kind}" for cell, kind in SITES], "operation"),
        f"Held-out weighted F in units of .0001 for one more edge, ± posterior standard deviation; {len(kept)} "
        f"genotypes. How strongly the effects shrink towards zero is chosen by the evidence of the data. Fitted to all "
        f"genotypes of the pool but one, the prediction of that one has a correlation of {told[0]:+.2f} with its score "
        f"by families and of {told[1]:+.2f} by operations.",
    ])  # fmt: skip


def _worth(model: LinearModel, names: Sequence[str], places: Sequence[str], what: str) -> str:
    """Effects of a model whose features are counts of the names, place by place, and the multiply-adds."""
    values, errors = (1e4 * part for part in model.effects())
    lines = []
    for number, name in enumerate(names):
        cells = range(number, len(names) * len(places), len(names))
        lines.append([name, *(f"{values[cell]:+.1f} ± {errors[cell]:.1f}" for cell in cells)])
    lines.append(["one GMAC, anywhere", f"{values[-1]:+.0f} ± {errors[-1]:.0f}", *[""] * (len(places) - 1)])
    return markdown(Table([what, *places], lines))


def draw_pareto(rows: Sequence[Training]) -> Figure:
    """Held-out weighted F against multiply-adds, a colour a group, with the upper envelope of all; training seed 0."""
    rows = [row for row in rows if row.training_seed == 0]  # a seed shifts all genotypes
    with styled():
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        panel = figure.subplots()
        for number, group in enumerate(_groups(rows)):
            points = np.array(_means([row for row in rows if row.group == group], "wfm_validation"))  # (N, 2)
            panel.plot(*points.T, "o", ms=4, alpha=0.8, color=COLOURS[number % len(COLOURS)], label=group)
        front, top = [], -np.inf
        for cost, value in sorted(_means(rows, "wfm_validation")):
            if value > top:
                front, top = [*front, (cost, value)], value
        panel.plot(*np.array(front).T, color="black", lw=0.8, drawstyle="steps-post", label="Pareto front")
        panel.set(xlabel="GMAC of the network", ylabel="held-out weighted F")
        panel.legend()
    return figure


def _lines(rows: Sequence[Training]) -> dict[str, list[Training]]:
    """The trainings of each line of a table: of a group, or of one homogeneous genotype, whose costs differ sixfold."""
    found: dict[str, list[Training]] = {}
    for row in rows:
        found.setdefault(f"{row.group} {row.genotype}" if row.group == HOMOGENEOUS else row.group, []).append(row)
    return found


def _together(rows: Sequence[Training]) -> list[tuple[str, list[Training]]]:
    """A line for the strategy `darts` with all of its variants, where there are some: more searches show more."""
    mine = [row for row in rows if row.group in (BASE, *REMEDIES)]
    return [(f"{BASE} and its variants", mine)] if len(_groups(mine)) > 1 else []


def _groups(rows: Sequence[Training]) -> list[str]:
    return list(dict.fromkeys(row.group for row in rows))


def _scores(rows: Sequence[Training], column: str) -> dict[str, dict[int, float]]:
    """Genotype -> training seed -> score."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (value := getattr(row, column)) is not None:
            found.setdefault(f"{row.group} {row.genotype}", {})[row.training_seed] = value
    return found


def _means(rows: Sequence[Training], column: str) -> list[tuple[float, float]]:
    """(GMAC, mean over the training seeds) of each genotype that was scored."""
    read: Callable[[Training], float | None] = lambda row: getattr(row, column)  # noqa: E731
    found = []
    for key in dict.fromkeys((row.group, row.genotype) for row in rows):
        mine = [row for row in rows if (row.group, row.genotype) == key]
        values = [value for value in map(read, mine) if value is not None]
        if values:
            found.append((mine[0].gmac, float(np.mean(values))))
    return found
