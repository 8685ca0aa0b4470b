"""The whole search on one HTML page, and the drawings after every epoch.

The page is one file that loads nothing: drawings are SVG inside it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.report.figures import inline_svg, rendered, style, styled
from evaluation.report.html import render
from nas.cell_drawings import draw_cells, draw_weights
from nas.settings import SearchConfig
from nas.watch import EpochRecord, collapse
from net.derive import allowed
from net.genotype import operations_of
from settings.parser import to_plain
from utils.files import replace_bytes, replace_text

_TEMPLATE = Path(__file__).with_name("page.html.j2")
CSS = Path(__file__).with_name("page.css")
"""Style of all pages of a search."""

# Panels of the page: title, and the series in it.
PANELS: Mapping[str, tuple[str, ...]] = {
    "loss": ("weight_loss", "alpha_loss"),
    "mean entropy of an edge, nats": ("entropy", "alpha_entropy"),
    "share of derived edges": ("skip", "attention", "agreement"),
    "multiply-accumulates of the edges, billions": ("expected_gmac", "derived_gmac"),
    "loss on the same batches": ("mixed_loss", "derived_loss"),
}

LABELS = {
    "weight_loss": "of the weights", "alpha_loss": "of the alphas", "entropy": "at the temperature",
    "alpha_entropy": "at temperature 1", "skip": "skip connections", "attention": "attentions",
    "agreement": "as the epoch before", "expected_gmac": "mixture, expected", "derived_gmac": "derived cells",
    "mixed_loss": "mixture", "derived_loss": "derived cells",
}  # fmt: skip


def draw_epoch(record: EpochRecord, config: SearchConfig) -> None:
    """Writes the derived cells and the heat map of an epoch, each as PNG and SVG."""
    genotype = record.genotype
    figures = {
        "cells": draw_cells(genotype, f"epoch {record.epoch} of {config.epochs}"),
        "heat": draw_weights(record.probabilities, genotype, config.space.operations),
    }
    for folder, figure in figures.items():
        for kind in ("png", "svg"):
            replace_bytes(config.out / folder / f"epoch_{record.epoch:03}.{kind}", rendered(figure, kind))


def write_page(
    path: Path,
    history: Sequence[EpochRecord],
    chosen: EpochRecord,
    config: SearchConfig,
    images: Mapping[str, str | int],
) -> None:
    """Writes the page.

    Args:
        path: where to.
        history: a record an epoch, at least one.
        chosen: that of the epoch whose cells the search gives.
        config: of the search.
        images: counts of both halves.
    """
    last = history[-1]
    genotype = chosen.genotype
    values = {
        "cells": inline_svg(draw_cells(genotype), "cells", "The three searched cells and their operations"),
        "heat": inline_svg(
            draw_weights(chosen.probabilities, genotype, config.space.operations), "heat",
            "Weight of every operation on every edge",
        ),
        "curves": inline_svg(draw_history(history), "curves", "Losses, entropy, shares and cost over the epochs"),
        "edges": edge_table(chosen, config),
        "warnings": [(one.epoch, sign) for one in history for sign in collapse(one, config.watch, config.epochs)],
        "last": last, "chosen": chosen, "first": history[0], "epochs": config.epochs, "images": images,
        "css": CSS.read_text(encoding="utf-8"),
        "greatest": math.log(len(config.space.operations)),
        "settings": flat_settings(to_plain(config)),
        "genotype": chosen.genotype.to_json(), "space": config.space, "out": config.out,
    }  # fmt: skip
    replace_text(path, render(_TEMPLATE, values))


def draw_history(history: Sequence[EpochRecord]) -> Figure:
    """Curves over the epochs, a panel for each of `PANELS`; warm-up epochs are shaded."""
    resting = [record.epoch for record in history if record.alphas_rest]
    with styled():
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        panels: Sequence[Axes] = list(figure.subplots(2, 3).flat)
        for panel, (title, keys) in zip(panels, PANELS.items(), strict=False):
            for index, key in enumerate(keys):
                values = [getattr(record, key) for record in history]
                panel.plot(
                    [record.epoch for record in history], values, label=LABELS[key], marker=".",
                    **style(index),
                )  # fmt: skip
            if resting:
                panel.axvspan(0.5, max(resting) + 0.5, color="#808080", alpha=0.15, lw=0)
            panel.set(title=title, xlabel="epoch", xlim=(0.5, len(history) + 0.5))
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.legend()
        for panel in panels[len(PANELS) :]:
            panel.axis("off")
    return figure


def edge_table(record: EpochRecord, config: SearchConfig) -> list[dict[str, Any]]:
    """For each edge the chosen operation with its weight, and the one that came second."""
    rows = []
    genotype = record.genotype
    for (edge, chosen), weights in zip(operations_of(genotype), record.probabilities, strict=True):
        by_name = dict(zip(config.space.operations, weights, strict=True))
        others = {name: by_name[name] for name in allowed(config.space, edge.kind) if name != chosen}
        second = max(others, key=others.__getitem__, default="")
        rows.append({
            "edge": str(edge), "chosen": chosen, "weight": by_name[chosen], "second": second,
            "second_weight": others.get(second, 0.0), "none": by_name.get("none", 0.0),
        })  # fmt: skip
    return rows


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings by dotted key."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flat_settings(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, str(value)))
    return rows
