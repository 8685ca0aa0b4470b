"""What a comparison found: table, plot and data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev, variance
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from evaluation.report.figures import COLOURS, rendered, styled
from evaluation.tables.writer import Table, markdown
from inference.weights import load_network
from utils.errors import UserError
from utils.files import replace_bytes, replace_text

RANDOM = "random"
"""Name of the group of random genotypes."""


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        group: a variant of the search, `published` or `random`.
        name: of the genotype within its group.
        seed: of the training.
        parameters: of the whole network.
        gmac: multiply-accumulates of one picture at the training's size, in billions.
        scores: data set -> measure (wfm, maxf, sm, mae) -> value.
    """

    group: str
    name: str
    seed: int
    parameters: int
    gmac: float
    scores: Mapping[str, Mapping[str, float]]


def size_of(weights: Path) -> tuple[int, float]:
    """Parameters of a saved network, and its multiply-accumulates on one picture in billions."""
    loaded = load_network(weights)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        loaded.network(torch.zeros(1, 3, loaded.size, loaded.size))
    return sum(one.numel() for one in loaded.network.parameters()), counter.get_total_flops() / 2e9


class ResultsError(UserError):
    """Results of an earlier comparison that can't be read or can't stand beside these."""


def read_results(path: Path, budget: Mapping[str, Any]) -> list[Result]:
    """Results of an earlier comparison, from its compare.json.

    Raises:
        ResultsError: if it is not there, or was made with another budget.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        results = [Result(**one) for one in record["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: no compare.json of a comparison ({error}). Leave out earlier.") from None
    for key, value in budget.items():
        if record["budget"].get(key) != value:
            raise ResultsError(
                f"{path}: {key} is {record['budget'].get(key)} there and {value} here, so the results can't stand side "
                f"by side. Give the same, or leave out earlier."
            )
    return results


def write_results(
    out: Path, results: Sequence[Result], sets: Sequence[str], description: str, budget: Mapping[str, Any] | None = None
) -> None:
    """Writes compare.md, compare.json, compare.png and compare.svg.

    Args:
        out: folder.
        results: all trainings so far.
        sets: data sets, in the order of columns.
        description: what was compared.
        budget: what all of them had in common, for `read_results`.
    """
    record = {"budget": dict(budget or {}), "results": [asdict(result) for result in results]}
    replace_text(out / "compare.json", json.dumps(record, indent=2) + "\n")
    replace_text(out / "compare.md", "\n".join(_table(results, sets, description)) + "\n")
    figure = draw_results(results, sets)
    for kind in ("png", "svg"):
        replace_bytes(out / f"compare.{kind}", rendered(figure, kind))


def draw_results(results: Sequence[Result], sets: Sequence[str], measure: str = "wfm") -> Figure:
    """Every training as a point, a panel for each data set, a column for each group, its mean as a line."""
    groups = list(dict.fromkeys(result.group for result in results))
    with styled():
        figure = Figure(figsize=(2.6 * len(sets) + 0.6, 3.2), layout="constrained")
        panels: Sequence[Axes] = list(figure.subplots(1, len(sets), squeeze=False).flat)
        for panel, name in zip(panels, sets, strict=True):
            for column, group in enumerate(groups):
                values = _values(results, group, name, measure)
                places = [column + 0.06 * (index - (len(values) - 1) / 2) for index in range(len(values))]
                panel.plot(places, values, "o", ms=4, alpha=0.8, color=COLOURS[column % len(COLOURS)])
                panel.hlines(mean(values), column - 0.35, column + 0.35, color="black", lw=1)
            panel.set_xticks(range(len(groups)), groups, rotation=20)
            panel.set(title=name, xlim=(-0.6, len(groups) - 0.4))
        panels[0].set_ylabel({"wfm": "weighted F", "mae": "MAE"}.get(measure, measure))
    return figure


def _table(results: Sequence[Result], sets: Sequence[str], description: str) -> list[str]:
    """Lines of the report: a row a group, then a row a training."""
    groups = list(dict.fromkeys(result.group for result in results))
    heads = ["parameters, M", "GMAC", *(f"{name} {label}" for name in sets for label in ("weighted F", "MAE"))]
    rows = []
    for group in groups:
        mine = [result for result in results if result.group == group]
        size = [f"{mean(one.parameters for one in mine) / 1e6:.2f}", f"{mean(one.gmac for one in mine):.2f}"]
        scores = [_spread(_values(results, group, name, measure)) for name in sets for measure in ("wfm", "mae")]
        rows.append([group, str(len(mine)), *size, *scores])
    trainings = [
        [
            f"{one.group} {one.name}", str(one.seed), f"{one.parameters / 1e6:.2f}", f"{one.gmac:.2f}",
            *(f"{one.scores[name][measure]:.4f}" for name in sets for measure in ("wfm", "mae")),
        ]
        for one in results
    ]  # fmt: skip
    return [
        "# Searched, published and random cells", "", description, "",
        markdown(Table(["cells", "trainings", *heads], rows)), "",
        "Mean ± standard deviation over the trainings of a group (least to greatest).", "",
        *_against_random(results, groups, sets), "Every training:", "",
        markdown(Table(["cells", "seed", *heads], trainings)), "",
        "![weighted F of every training](compare.png)",
    ]  # fmt: skip


def _against_random(results: Sequence[Result], groups: Sequence[str], sets: Sequence[str]) -> list[str]:
    """Lines: how far each group is from random cells, and how much two trainings of the same cells differ.

    A genotype counts once, by the mean of its trainings, since these are not independent of each other. The standard
    error is Welch's; a group of one genotype adds none of its own. Nothing without random cells.
    """
    others = [group for group in groups if group != RANDOM]
    if not others or len(others) == len(groups):
        return []
    rows = [[group, *(_difference(results, group, name) for name in sets)] for group in others]
    rows.append(["between trainings of one genotype", *(f"{_noise(results, name):.4f}" for name in sets)])
    return [
        markdown(Table(["weighted F less that of random cells", *sets], rows)), "",
        "± standard error, each genotype once, by the mean of its trainings; last row: standard deviation.", "",
    ]  # fmt: skip


def _genotypes(results: Sequence[Result], group: str, name: str) -> list[list[float]]:
    """Weighted F of the trainings of each genotype of a group."""
    found: dict[str, list[float]] = {}
    for result in results:
        if result.group == group:
            found.setdefault(result.name, []).append(result.scores[name]["wfm"])
    return list(found.values())


def _difference(results: Sequence[Result], group: str, name: str) -> str:
    mine, random = ([mean(values) for values in _genotypes(results, one, name)] for one in (group, RANDOM))
    error = sum(variance(values) / len(values) for values in (mine, random) if len(values) > 1) ** 0.5
    return f"{mean(mine) - mean(random):+.4f} ± {error:.4f}"


def _noise(results: Sequence[Result], name: str) -> float:
    """Pooled standard deviation between trainings of the same genotype; 0 if none was trained twice."""
    repeated = [
        values
        for group in dict.fromkeys(result.group for result in results)
        for values in _genotypes(results, group, name)
        if len(values) > 1
    ]
    squares = sum(variance(values) * (len(values) - 1) for values in repeated)
    return (squares / max(1, sum(len(values) - 1 for values in repeated))) ** 0.5


def _values(results: Sequence[Result], group: str, name: str, measure: str) -> list[float]:
    return [result.scores[name][measure] for result in results if result.group == group]


def _spread(values: Sequence[float]) -> str:
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.4f} ± {deviation:.4f} ({min(values):.4f} to {max(values):.4f})"
