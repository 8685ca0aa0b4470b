"""The page of a search by any strategy but `darts`: cells, account, best genotypes, worth of operations."""

from pathlib import Path
from typing import Any

from evaluation.report.figures import inline_svg
from evaluation.report.html import render
from nas.cell_drawings import SHORT, draw_cells
from nas.page import CSS, flat_settings
from nas.strategies.task import Outcome, Task
from net.genotype import Genotype
from settings.parser import to_plain
from utils.files import replace_text

_TEMPLATE = Path(__file__).with_name("page.html.j2")
SHOWN = 20
"""Best genotypes in the table."""


def write_strategy_page(path: Path, genotype: Genotype, outcome: Outcome, task: Task) -> None:
    """Writes the page.

    Args:
        path: where to.
        genotype: that was chosen.
        outcome: of the strategy.
        task: for settings, account and cost.
    """
    best = sorted(outcome.scored, key=lambda one: -one.score)[:SHOWN]
    config = task.config
    values = {
        "css": CSS.read_text(encoding="utf-8"),
        "cells": inline_svg(draw_cells(genotype), "cells", "The three searched cells and their operations"),
        "strategy": config.strategy, "reason": outcome.reason, "measure": outcome.measure,
        "account": task.account, "count": len(outcome.scored), "macs": task.choices.cost_of(outcome.names),
        "best": [(one.score, task.macs(one.names) / 1e9, one.origin) for one in best],
        "worth": worth_table(outcome, task), "heads": sorted({name for row in outcome.worth for name in row}),
        "short": SHORT, "settings": flat_settings(to_plain(config)), "genotype": genotype.to_json(),
        "space": config.space, "out": config.out,
    }  # fmt: skip
    replace_text(path, render(_TEMPLATE, values))


def worth_table(outcome: Outcome, task: Task) -> list[dict[str, Any]]:
    """For each edge the chosen operation, and the estimated worth of each candidate."""
    return [
        {"edge": str(edge), "chosen": chosen, "worth": dict(row)}
        for edge, chosen, row in zip(task.choices.edges, outcome.names, outcome.worth, strict=False)
    ]
