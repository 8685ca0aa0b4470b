"""Tables and figures of strata: scores by group of images, and the worst images of each group."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.measures import label, lower_is_better
from evaluation.methods import Evaluated
from evaluation.report.figures import rendered, style, styled, typeset
from evaluation.report.selection import image_scores
from evaluation.strata import Stratum, StratumScores, find_strata, score_strata
from evaluation.tables.scores import short
from evaluation.tables.writer import Table, comma_separated, markdown
from utils.files import replace_bytes, replace_text

DRAWN = ("wfm", "mae", "sm")
WORST = 10  # images of a stratum in its table


@dataclass(frozen=True)
class StrataReport:
    """The strata of one kind on one dataset, with every method's scores."""

    dataset: str
    kind: str
    strata: Sequence[Stratum]
    scores: Sequence[StratumScores]


def find_reports(evaluated: Sequence[Evaluated], kinds: Sequence[str], resamples: int) -> list[StrataReport]:
    """A report for every dataset and kind, in this order."""
    reports = []
    for each in evaluated:
        for kind in kinds:
            strata = find_strata(kind, each.data_set.targets)
            scores = score_strata(strata, dict(each.scores), resamples)
            reports.append(StrataReport(each.data_set.name, kind, strata, scores))
    return reports


def write_strata(reports: Sequence[StrataReport], evaluated: Sequence[Evaluated], rank_by: str, out: Path) -> None:
    """Writes `strata.md`, and for every report `strata/NAME-KIND.csv`, `-worst.csv`, `.pdf` and `.svg`."""
    parts = []
    by_name = {each.data_set.name: each for each in evaluated}
    for report in reports:
        worst = worst_images(by_name[report.dataset], report.strata, rank_by)
        stem = out / "strata" / f"{report.dataset}-{report.kind}"
        replace_text(stem.with_name(f"{stem.name}.csv"), scores_csv(report))
        replace_text(stem.with_name(f"{stem.name}-worst.csv"), comma_separated(worst.heads, worst.rows))
        figure = draw_strata(report)
        for suffix in ("pdf", "svg"):
            replace_bytes(stem.with_name(f"{stem.name}.{suffix}"), rendered(figure, suffix, transparent=True))
        parts += [strata_markdown(report), f"Worst images by {label(rank_by)}:", "", markdown(worst), ""]
    if parts:
        replace_text(out / "strata.md", "\n".join(parts))


def strata_markdown(report: StrataReport) -> str:
    """The scores of every method by stratum, with 95 % intervals."""
    keys = tuple(report.scores[0].values)
    rows = [
        [one.stratum.label, str(len(one.stratum.places)), one.method, *(_cell(one, key) for key in keys)]
        for one in report.scores
    ]
    heads = [report.kind, "images", "method", *map(label, keys)]
    title = f"### {report.dataset} by {report.kind}"
    note = "In brackets: 95 % intervals."
    return "\n".join([title, "", markdown(Table(heads, rows, 1)), "", note, ""])


def scores_csv(report: StrataReport) -> str:
    """One line for each stratum and method, with all digits."""
    keys = tuple(report.scores[0].values)
    rows = [
        [
            one.stratum.label, len(one.stratum.places), one.method, *one.values.values(),
            *(end for key in keys for end in one.intervals.get(key, ("", ""))),
        ]
        for one in report.scores
    ]  # fmt: skip
    ends = [f"{key}_{end}" for key in keys for end in ("low", "high")]
    return comma_separated([report.kind, "images", "method", *keys, *ends], rows)


def worst_images(evaluated: Evaluated, strata: Sequence[Stratum], key: str, count: int = WORST) -> Table:
    """The images of each stratum with the worst mean of all methods, and every method's score of them."""
    scores = image_scores(evaluated, key)  # (M, N)
    badness = scores.mean(axis=0) * (1 if lower_is_better(key) else -1)
    rows = [
        [stratum.label, evaluated.data_set.names[place], *(short(value) for value in scores[:, place])]
        for stratum in strata
        for place in sorted(stratum.places, key=lambda place: (-badness[place], place))[:count]
    ]
    return Table(["stratum", "image", *evaluated.scores], rows, 2)


def draw_strata(report: StrataReport, title: str | None = None) -> Figure:
    """A panel for each of `DRAWN`: the methods' scores by stratum, with their 95 % intervals.

    Args:
        title: above the panels; by default dataset and kind.
    """
    methods = list(dict.fromkeys(one.method for one in report.scores))
    labels = [f"{stratum.label}\nn = {len(stratum.places)}" for stratum in report.strata]
    with styled():
        figure = Figure(figsize=(3.4 * len(DRAWN), 3.0), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, len(DRAWN))
        for panel, key in zip(panels, DRAWN, strict=True):
            for index, method in enumerate(methods):
                mine = [one for one in report.scores if one.method == method]
                values = np.array([one.values[key] for one in mine])
                ends = np.array([one.intervals.get(key, (one.values[key],) * 2) for one in mine])
                places = np.arange(len(mine)) + 0.6 * ((index + 0.5) / len(methods) - 0.5)
                spread = np.abs(ends.T - values)
                panel.errorbar(places, values, spread, marker="o", ms=3, capsize=2, lw=1, label=method, **style(index))
            panel.set_xticks(range(len(labels)), labels, fontsize=7)
            panel.set_title(typeset(label(key)), parse_math=False)
            panel.grid(axis="y")
        figure.suptitle(f"{report.dataset} by {report.kind}" if title is None else title, parse_math=False)
        legend = figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _cell(one: StratumScores, key: str) -> str:
    if key not in one.intervals:
        return short(one.values[key])
    return f"{short(one.values[key])} ({' to '.join(map(short, one.intervals[key]))})"
