"""Precision-recall, F and E curves of several methods, to be printed: vector graphics, safe for the colour-blind.

Colours are Okabe and Ito's ("Color Universal Design", 2008) without yellow and black; line styles repeat with
another period, so that methods differ in print without colour too.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from evaluation.metrics import Curves

_LEGEND = 105  # letters across the figure; a line's sample and the gap after it take seven

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2), (3, 1.2))

_SETTINGS: dict[RcKeyType, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3 fonts
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",  # the same figure gives the same file
}


def style(index: int) -> dict[str, Any]:
    """Colour and dashes of the method in place `index`, as Matplotlib takes them; distinct for 30 methods."""
    dashes = DASHES[index % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": (0, dashes) if dashes else "-"}


def draw_curves(title: str, curves: Mapping[str, Curves]) -> Figure:
    """Three panels: precision over recall, F and E over the threshold; a legend below.

    Args:
        title: of the figure, the data set.
        curves: method -> its curves, in the order of the legend.
    """
    thresholds = np.arange(256)
    with mpl.rc_context(_SETTINGS):
        columns = max(1, min(len(curves), 4, _LEGEND // (max(map(len, curves)) + 7)))
        legend_height = 0.22 * -(-len(curves) // columns)
        figure = Figure(figsize=(7.2, 2.7 + legend_height), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, 3)
        for index, curve in enumerate(curves.values()):
            drawn = ((curve.recall, curve.precision), (thresholds, curve.f), (thresholds, curve.e))
            for place, (panel, (x, y)) in enumerate(zip(panels, drawn, strict=True)):
                gid = f"method-{index}-{place}"
                panel.plot(x, y, linewidth=1.3, gid=gid, **style(index))
        labels = (("recall", "precision"), ("threshold", r"$F$ ($\beta^2 = 0.3$)"), ("threshold", r"$E$"))
        for panel, (x, y), limit in zip(panels, labels, (1, 255, 255), strict=True):
            panel.set(xlabel=x, ylabel=y, xlim=(0, limit), ylim=(0, 1.005), xticks=np.linspace(0, limit, 6))
        figure.suptitle(title, fontsize=9, parse_math=False)
        legend = figure.legend(panels[0].lines, list(curves), loc="outside lower center", ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, without a date: a figure drawn anew gives the same bytes."""
    return _rendered(figure, "pdf", {"CreationDate": None})


def svg(figure: Figure) -> bytes:
    """The figure as SVG, without a date."""
    return _rendered(figure, "svg", {"Date": None})


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element of a page: its ink is the page's, its lines are marked `method-0`, ...

    Args:
        name: goes before every id, so that several figures can stand in one page. Letters, digits and `-`.
        label: what the figure shows, for those who do not see it. No quotes or angle brackets.
    """
    text = svg(figure).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'<g id="[^"]*method-(\d+)-\d+"', r'<g class="method-\1"', text)
    text = text.replace("#000000", "currentColor")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{label}"', text, count=1)


def _rendered(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(target, format=kind, metadata=metadata, transparent=True)
    return target.getvalue()
