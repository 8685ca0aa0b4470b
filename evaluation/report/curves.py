"""Precision-recall, F and E curves of several methods, to be printed: vector graphics."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.metrics import Curves
from evaluation.report.figures import style, styled

_LEGEND = 105  # letters across the figure; a line's sample and the gap after it take seven


def draw_curves(title: str, curves: Mapping[str, Curves]) -> Figure:
    """Three panels: precision over recall, F and E over the threshold; a legend below.

    Args:
        title: of the figure, the data set.
        curves: method -> its curves, in the order of the legend.
    """
    thresholds = np.arange(256)
    with styled():
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
            panel.grid()
            panel.set(xlabel=x, ylabel=y, xlim=(0, limit), ylim=(0, 1.005), xticks=np.linspace(0, limit, 6))
        figure.suptitle(title, parse_math=False)
        legend = figure.legend(panels[0].lines, list(curves), loc="outside lower center", ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure
