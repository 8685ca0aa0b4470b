"""Results of a comparison: table, plot and data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from data.settings import DataConfig
from evaluation.report.figures import COLOURS, rendered, styled
from evaluation.tables.writer import Table, markdown
from inference.weights import load_network
from nas.compare_settings import RANDOM
from nas.matched import Trainings, common_seeds, difference, training_noise
from training.run_group import settings_content
from training.settings import TrainConfig
from utils.errors import UserError
from utils.files import replace_bytes, replace_text


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        group: a variant of the search, `published` or `random`.
        name: of the genotype within its group.
        seed: of the training.
        parameters: of the whole network.
        gmac: multiply-accumulates of one image at the training's size, in billions.
        scores: dataset -> measure (wfm, maxf, sm, mae) -> value.
    """

    group: str
    name: str
    seed: int
    parameters: int
    gmac: float
    scores: Mapping[str, Mapping[str, float]]


def size_of(weights: Path) -> tuple[int, float]:
    """Parameters of a saved network, and its multiply-accumulates on one image in billions."""
    loaded = load_network(weights)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        loaded.network(torch.zeros(1, 3, loaded.size, loaded.size))
    return sum(one.numel() for one in loaded.network.parameters()), counter.get_total_flops() / 2e9


class ResultsError(UserError):
    """Results of an earlier comparison that can't be read or can't be reported beside these."""


def read_results(path: Path, budget: Mapping[str, Any], sets: Sequence[str]) -> list[Result]:
    """Results of an earlier comparison, from its compare.json.

    Args:
        path: of compare.json.
        budget: what the results must have in common with these, see `nas.compare.budget_of`.
        sets: datasets that each of them must have been scored on.

    Raises:
        ResultsError: if it can't be read, was made with another budget, or lacks a dataset.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        results = [Result(**one) for one in record["results"]]
        before = dict(record["budget"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path}: no compare.json of a comparison ({error}). Leave out earlier.") from None
    refuse_other_budget(before, budget, str(path))
    for one in results:
        missing = [name for name in sets if name not in one.scores]
        if missing:
            raise ResultsError(
                f"{path}: {one.group} {one.name} has no scores on {missing[0]}, only on {', '.join(one.scores)}. "
                f"Leave out earlier, or benchmarks.{missing[0]}."
            )
    return results


def refuse_other_budget(before: Mapping[str, Any], now: Mapping[str, Any], origin: str) -> None:
    """Refuses results that were made with other images, weights, network or recipe.

    A setting of the recipe that did not exist then counts as its default.

    Args:
        before: budget of the earlier results, see `nas.compare.budget_of`.
        now: that of these.
        origin: what an error should name.

    Raises:
        ResultsError: naming what differs and both values.
    """
    defaults = settings_content(TrainConfig(data=DataConfig(Path())))
    recipe = {**{key: value for key, value in defaults.items() if key in now["recipe"]}, **before.get("recipe", {})}
    flat = [{**budget, **budget["recipe"]} for budget in ({**before, "recipe": recipe}, now)]
    for key in sorted({*flat[0], *flat[1]} - {"recipe"}):
        there, here = (one.get(key) for one in flat)
        if there != here:
            raise ResultsError(
                f"{origin}: {key} is {str(there)[:60]} there and {str(here)[:60]} here, so the results are not "
                f"comparable. Give the same, or leave them out."
            )


def write_results(
    out: Path, results: Sequence[Result], sets: Sequence[str], description: str, budget: Mapping[str, Any] | None = None
) -> None:
    """Writes compare.md, compare.json, compare.png and compare.svg.

    Args:
        out: folder.
        results: all trainings so far.
        sets: datasets, in the order of columns.
        description: what was compared.
        budget: what all of them had in common, for `read_results`.
    """
    record = {
        "budget": dict(budget or {}), "description": description, "sets": list(sets),
        "results": [asdict(result) for result in results],
    }  # fmt: skip
    replace_text(out / "compare.json", json.dumps(record, indent=2) + "\n")
    write_tables(out)


def read_compared(path: Path) -> list[Result]:
    """Results of a compare.json, whatever its budget.

    Raises:
        ResultsError: if it can't be read.
    """
    try:
        return [Result(**one) for one in json.loads(path.read_text("utf-8"))["results"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path}: no compare.json of a comparison ({error}). Run the comparison.") from None


def write_tables(out: Path) -> None:
    """Writes compare.md, compare.png and compare.svg from the compare.json of a folder.

    Raises:
        ResultsError: if it can't be read.
    """
    try:
        record = json.loads((out / "compare.json").read_text("utf-8"))
        results = [Result(**one) for one in record["results"]]
        sets, description = record["sets"], record["description"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(f"{out}: no compare.json of a comparison ({error}). Run the comparison.") from None
    replace_text(out / "compare.md", "\n".join(_table(results, sets, description)) + "\n")
    figure = draw_results(results, sets)
    for kind in ("png", "svg"):
        replace_bytes(out / f"compare.{kind}", rendered(figure, kind))


def draw_results(results: Sequence[Result], sets: Sequence[str], measure: str = "wfm") -> Figure:
    """Every training as a point, a panel for each dataset, a column for each group, its mean as a line."""
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
    seeds = common_seeds(*(_trainings(results, group, sets[0]) for group in groups)) if sets else ()
    compared = [one for one in results if one.seed in seeds] or results
    heads = ["parameters, M", "GMAC", *(f"{name} {label}" for name in sets for label in ("weighted F", "MAE"))]
    rows = []
    for group in groups:
        mine = [result for result in compared if result.group == group]
        size = [f"{mean(one.parameters for one in mine) / 1e6:.2f}", f"{mean(one.gmac for one in mine):.2f}"]
        scores = [_spread(_values(compared, group, name, measure)) for name in sets for measure in ("wfm", "mae")]
        rows.append([group, str(len(mine)), *size, *scores])
    trainings = [
        [
            f"{one.group} {one.name}", str(one.seed), f"{one.parameters / 1e6:.2f}", f"{one.gmac:.2f}",
            *(f"{one.scores[name][measure]:.4f}" for name in sets for measure in ("wfm", "mae")),
        ]
        for one in results
    ]  # fmt: skip
    which = f"training seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, which all groups have"
    return [
        "# Searched, published and random cells", "", description.strip(), "",
        markdown(Table(["cells", "trainings", *heads], rows)), "",
        f"Mean ± standard deviation over the trainings of a group (least to greatest); "
        f"{which if seeds else 'the groups have no training seed in common, so these means are not comparable'}.", "",
        *_against_random(results, groups, sets), "Every training:", "",
        markdown(Table(["cells", "seed", *heads], trainings)), "",
        "![weighted F of every training](compare.png)",
    ]  # fmt: skip


def _against_random(results: Sequence[Result], groups: Sequence[str], sets: Sequence[str]) -> list[str]:
    """Lines: how far each group is from random cells, see `nas.matched`. Nothing without random cells."""
    others = [group for group in groups if group != RANDOM]
    if not others or len(others) == len(groups):
        return []
    rows = [[group, *(_difference(results, groups, group, name) for name in sets)] for group in others]
    noise = [training_noise([_trainings(results, group, name) for group in groups]) for name in sets]
    rows.append(["noise of a training", *("unknown" if isnan(value) else f"{value:.4f}" for value in noise)])
    return [
        markdown(Table(["weighted F less that of random cells", *sets], rows)), "",
        "Within the training seeds that a group and the random cells both have; each genotype once, by the mean of its "
        "trainings; ± standard error. A group of one genotype has the noise of its trainings for an error of its own. "
        "Last row: standard deviation between trainings of one genotype, less the shift of a seed.", "",
    ]  # fmt: skip


def _trainings(results: Sequence[Result], group: str, name: str) -> Trainings:
    """Weighted F of a group's trainings by genotype and seed."""
    found: dict[str, dict[int, float]] = {}
    for result in results:
        if result.group == group:
            found.setdefault(result.name, {})[result.seed] = result.scores[name]["wfm"]
    return found


def _difference(results: Sequence[Result], groups: Sequence[str], group: str, name: str) -> str:
    noise = training_noise([_trainings(results, one, name) for one in groups])
    found = difference(_trainings(results, group, name), _trainings(results, RANDOM, name), noise)
    if not found.seeds:
        return "no training seed in common"
    error = "error unknown" if isnan(found.error) else f"± {found.error:.4f}"
    return f"{found.value:+.4f} {error}"


def _values(results: Sequence[Result], group: str, name: str, measure: str) -> list[float]:
    return [result.scores[name][measure] for result in results if result.group == group]


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{mean(values):.4f} ± {stdev(values):.4f} ({min(values):.4f} to {max(values):.4f})"
