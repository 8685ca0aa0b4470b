"""The wiring of the three cells as data: which node reads what, and the 31 edges in order.

Source: paper Figure 7. It draws a cell as a row of nodes. Each node starts from one level of the encoder, brought to it
by an outer edge. Inner edges lead from earlier values to it. The sum of all nodes is the cell's output.
Differs from Figure 7 with `topology="released"`, the default: the second inner edge of a node starts at the node's own
level, as in the authors' released forward pass. `topology="figure"` starts it at the cell's root, as drawn.

`FusionCell.forward`, `inference.folding` and `nas.cell_drawings` interpret this description.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from net.settings import Topology

LEVELS = ("E5", "E4", "E3", "E2")  # order of the outer edges
CELLS = 3
CELL_STRIDES = (16, 8, 4)  # paper, Figure 2: cells at 16x16, 32x32, 64x64 of a 256x256 input
Source = Literal["root", "level", "before"]
Kind = Literal["outer", "inner"]


@dataclass(frozen=True)
class Node:
    """A node: the state of its level, plus the outputs of its inner edges, added in this order.

    Attributes:
        level: index among `LEVELS` of the outer edge whose output it starts from.
        reads: what each of its inner edges reads: the cell's `root`, the node's own `level` (the outer edge's output),
            or the node `before`.
    """

    level: int
    reads: tuple[Source, ...]


@dataclass(frozen=True)
class Wiring:
    """One cell.

    Attributes:
        root: index of the outer edge whose output is the root; None where the root is the previous cell's output.
        nodes: in the order of computation, which is that of the inner edges too.
        root_is_summed: whether the root is added to the cell's sum, after all nodes.
    """

    root: int | None
    nodes: tuple[Node, ...]
    root_is_summed: bool

    @property
    def inner_edges(self) -> int:
        """Number of inner edges."""
        return sum(len(node.reads) for node in self.nodes)


class Edge(NamedTuple):
    """Where an edge is: cell 1 to 3, `outer` or `inner`, its number there from 0."""

    cell: int
    kind: Kind
    number: int

    def __str__(self) -> str:
        place = LEVELS[self.number] if self.kind == "outer" else str(self.number + 1)
        return f"cell {self.cell} {self.kind} {place}"


def wiring_of(cell: int, topology: Topology = "released") -> Wiring:
    """The wiring of a cell, counted from 1.

    The first cell takes E5 as its root. The others take the previous cell's output, so E5 is their first node.
    """
    first = cell == 1
    second: Source = "level" if topology == "released" else "root"
    start = 1 if first else 0
    nodes = tuple(
        Node(level, ("root",) if level == start else ("before", second)) for level in range(start, len(LEVELS))
    )
    # Figure 7 draws the first cell's root into its sum as well.
    return Wiring(0 if first else None, nodes, root_is_summed=first and topology == "figure")


def edges() -> Iterator[Edge]:
    """All 31 edges in the order of alphas, tables and drawings: for each cell the outer ones, then the inner ones."""
    for cell in range(1, CELLS + 1):
        counts: dict[Kind, int] = {"outer": len(LEVELS), "inner": wiring_of(cell).inner_edges}
        for kind, count in counts.items():
            yield from (Edge(cell, kind, number) for number in range(count))
