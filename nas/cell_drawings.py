"""Drawings of cells: the searched operations on their edges, and the weights of all candidates on every edge.

Source: the manner is that of the paper's Figure 7, a "Trans" block that hands each node its level, arcs between the
nodes, a sum behind them. Colours of the nodes are Figure 2's.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.path import Path as Route
from matplotlib.patheffects import withStroke as Halo

from evaluation.report.figures import styled
from net.genotype import CellGenotype, Genotype, operations_of
from net.settings import Topology
from net.wiring import LEVELS, wiring_of

NODE_COLOURS = {"E5": "#3b9e4f", "E4": "#3877b8", "E3": "#c8443c", "E2": "#e59a2f"}

# One colour an operation: what is alike has like colours. Newcomers are grey.
OPERATION_COLOURS = {
    "none": "#b0b4ba", "skip_connect": "#6b7078", "conv_3x3": "#a6cbe8", "conv_3x3_rp2": "#5b9bc9",
    "sep_conv_3x3": "#2f74ad", "sep_conv_3x3_rp2": "#124f85", "dil_conv_3x3": "#f2b480", "dil_conv_3x3_rp2": "#e07b39",
    "dil_conv_3x3_dil4": "#b0501a", "ChannelAttention": "#8d6cc0", "SpatialAttention": "#c46fb5",
}  # fmt: skip
SHORT = {
    "none": "none", "skip_connect": "skip", "conv_3x3": "conv", "conv_3x3_rp2": "double conv", "sep_conv_3x3": "sep",
    "sep_conv_3x3_rp2": "double sep", "dil_conv_3x3": "dil", "dil_conv_3x3_rp2": "double dil",
    "dil_conv_3x3_dil4": "dil 4", "ChannelAttention": "CA", "SpatialAttention": "SA",
}  # fmt: skip
_STEP = 2.5  # between nodes
_NODE = 0.26  # radius
_LETTER = 0.08  # inches, of a label


def draw_cells(genotype: Genotype, title: str = "") -> Figure:
    """The three cells side by side with their operations.

    Args:
        genotype: what to draw.
        title: above the cells.
    """
    with styled():
        figure = Figure(figsize=(14.0, 4.0 if genotype.topology == "figure" else 3.4))
        # Stated, not computed: nothing stands outside of the panels, and Matplotlib's layouts take half of the time.
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.14, top=0.88 if title else 0.93, wspace=0.03)
        panels: Sequence[Axes] = figure.subplots(1, 3)
        for number, (panel, cell) in enumerate(zip(panels, genotype.cells, strict=True), 1):
            _draw_cell(panel, cell, number, genotype.topology)
        used = {name for _, name in operations_of(genotype)}
        order = [*(name for name in OPERATION_COLOURS if name in used), *sorted(used - OPERATION_COLOURS.keys())]
        handles = [Patch(color=_colour(name), label=_legend(name)) for name in order]
        figure.legend(handles=handles, loc="lower center", ncols=6)
        if title:
            figure.suptitle(title)
    return figure


def draw_weights(probabilities: Sequence[Sequence[float]], genotype: Genotype, names: Sequence[str]) -> Figure:
    """Heat map of every edge's weights; what was chosen is framed.

    Args:
        probabilities: a row an edge, a column an operation, in [0, 1].
        genotype: what was derived from them.
        names: of the operations, in the order of the columns.
    """
    edges = [str(edge) for edge, _ in operations_of(genotype)]
    chosen = [names.index(name) for _, name in operations_of(genotype)]
    values = np.asarray(probabilities)  # (edges, operations)
    with styled():
        left, slanted = (_LETTER * max(map(len, labels)) for labels in (edges, [*map(_short, names)]))
        below, right = 0.7 * slanted + 0.25, 0.65  # for the labels of the operations, and of the colours
        width, height = left + right + 0.5 + 0.62 * len(names), below + 0.1 + 0.24 * len(edges)  # inches
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - 0.1 / height)
        panel: Axes = figure.subplots()
        panel.spines[:].set_visible(True)
        top = float(values.max())
        heat = panel.imshow(values, cmap="viridis", norm=Normalize(0, top), aspect="auto")
        panel.set_xticks(range(len(names)), [_short(name) for name in names], rotation=45, ha="right")
        panel.set_yticks(range(len(edges)), edges)
        for row, column in enumerate(chosen):
            panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="white", lw=1))
            value = values[row, column]
            colour = "black" if value > 0.6 * top else "white"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=6)
        cells = [edge.cell for edge, _ in operations_of(genotype)]
        for row in range(1, len(cells)):
            if cells[row] != cells[row - 1]:
                panel.axhline(row - 0.5, color="white", lw=2)
        figure.colorbar(heat, ax=panel, label="weight", shrink=0.5)
    return figure


def _draw_cell(panel: Axes, cell: CellGenotype, number: int, topology: Topology) -> None:
    """One cell: computation runs to the right, the Trans block lies below, the sum is on the right."""
    wiring, arcs = wiring_of(number, topology), topology == "figure"
    panel.set(
        xlim=(-1.0, _STEP * 5 + 0.9), ylim=(-3.4, 3.6 if arcs else 2.0), aspect="equal", title=f"cell {number}"
    )  # fmt: skip
    panel.axis("off")
    root = f"x{number - 1}" if wiring.root is None else LEVELS[wiring.root]
    _node(panel, 0, root, NODE_COLOURS.get(root, "#555a61"))
    inner = iter(cell.inner)
    for place, node in enumerate(wiring.nodes, 1):
        _node(panel, place, LEVELS[node.level], NODE_COLOURS[LEVELS[node.level]])
        for source in node.reads:
            if source == "level":
                _loop(panel, place, next(inner))
            else:
                straight = source == "before" or place == 1
                height = 0.0 if straight else 0.75 + 0.45 * (place - 2)
                _arc(panel, place - 1 if straight else 0, place, next(inner), height)
    _draw_outer(panel, cell.outer, wiring.root is not None)
    end = _STEP * (len(wiring.nodes) + 1)
    for place in range(0 if wiring.root_is_summed else 1, len(wiring.nodes) + 1):
        _arrow(panel, (_STEP * place, -_NODE), (end, -_NODE - 0.05), "#b0b4ba", bend=0.35)
    panel.add_patch(FancyBboxPatch((end - 0.3, -0.3), 0.6, 0.6, boxstyle="round,pad=0.05", fc="white", ec="#333"))
    panel.text(end, 0, "add", ha="center", va="center")


def _draw_outer(panel: Axes, outer: Sequence[str], first: bool) -> None:
    """The Trans block and an edge from it to each level's node."""
    left, right = (-0.5, _STEP * 3 + 0.5) if first else (_STEP - 0.5, _STEP * 4 + 0.5)
    panel.add_patch(FancyBboxPatch((left, -3.2), right - left, 0.5, boxstyle="round,pad=0.05", fc="#eef0f3", ec="#777"))
    panel.text((left + right) / 2, -2.95, "Trans", ha="center", va="center")
    for index, name in enumerate(outer):
        x = _STEP * (index if first else index + 1)
        _arrow(panel, (x, -2.65), (x, -_NODE), _colour(name), dashed=name == "none")
        text = panel.text(x + 0.12, -1.75, _short(name), rotation=90, ha="left", va="center", color=_colour(name))
        text.set_path_effects([Halo(linewidth=3, foreground="white")])
        text.set_zorder(5)


def _node(panel: Axes, place: int, label: str, colour: str) -> None:
    panel.add_patch(Circle((_STEP * place, 0), _NODE, fc=colour, ec="white", zorder=3))
    panel.text(_STEP * place, 0, label, ha="center", va="center", color="white", zorder=4, fontsize=7)


def _arc(panel: Axes, start: int, end: int, name: str, height: float) -> None:
    """An edge from node to node, straight or above the others."""
    left, right = _STEP * start, _STEP * end
    if height == 0:
        _arrow(panel, (left + _NODE, 0), (right - _NODE, 0), _colour(name), dashed=name == "none")
    else:
        top = 2 * height + _NODE
        route = Route([(left, _NODE), (left, top), (right, top), (right, _NODE)], [1, 4, 4, 4])
        panel.add_patch(
            FancyArrowPatch(path=route, arrowstyle="-|>", mutation_scale=9, color=_colour(name), lw=1.5, fill=False)
        )
    y = 0.1 if height == 0 else 1.5 * height + _NODE
    panel.text((left + right) / 2, y + 0.05, _short(name), ha="center", va="bottom", color=_colour(name))


def _loop(panel: Axes, place: int, name: str) -> None:
    """An edge from a level to its own node: the second inner edge as the released code has it."""
    x = _STEP * place
    route = Route([(x - 0.12, _NODE), (x - 0.75, 1.5), (x + 0.75, 1.5), (x + 0.12, _NODE)], [1, 4, 4, 4])
    panel.add_patch(
        FancyArrowPatch(path=route, arrowstyle="-|>", mutation_scale=9, color=_colour(name), lw=1.5, fill=False)
    )
    panel.text(x, 1.3, _short(name), ha="center", va="bottom", color=_colour(name))


def _arrow(
    panel: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, *, dashed: bool = False,
    bend: float = 0.0,
) -> None:  # fmt: skip
    panel.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=colour, lw=1.5 if not bend else 0.8,
            linestyle=":" if dashed else "-", connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip


def _colour(name: str) -> str:
    return OPERATION_COLOURS.get(name, "#808080")


def _legend(name: str) -> str:
    return f"{_short(name)} ({name})" if name in SHORT and _short(name) != name else name


def _short(name: str) -> str:
    return SHORT.get(name, name)
