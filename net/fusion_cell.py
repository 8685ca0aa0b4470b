"""FusionCell: four feature levels and the cell before it, fused along searched edges.

Source: paper Sec. 3.2, Figure 2 (where the cells stand) and Figure 7 (their edges).
Differs from Figure 7: every second inner edge starts at the node's own level, not at the root, as in the authors'
released forward pass; `topology="figure"` gives the drawn one.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from net import operations
from net.genotype import CellGenotype
from net.settings import Topology


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, *size), align_corners=False as in the released code."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ConvBNReLU(nn.Sequential):
    """3x3 convolution with bias, BatchNorm, ReLU: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU())


class FusionCell(nn.Module):
    """One cell of the decoder.

    Args:
        genotype: operations of this cell: four outer edges (E5, E4, E3, E2), then the inner ones.
        channels: width C of every feature.
        topology: `released` or `figure`, see above.

    Shapes:
        levels: E5..E2, each (B, C, h_i, w_i), any size.
        previous: (B, C, h, w), the output of the cell before; None for the first cell.
        returns: (B, C, H, W) with (H, W) = `size`.
    """

    def __init__(self, genotype: CellGenotype, channels: int, topology: Topology = "released") -> None:
        super().__init__()
        self.topology = topology
        self.outer = nn.ModuleList(operations.build(name, channels) for name in genotype.outer)
        self.inner = nn.ModuleList(operations.build(name, channels) for name in genotype.inner)
        self.fuse = ConvBNReLU(channels, channels)

    def forward(self, levels: Sequence[Tensor], size: tuple[int, int], previous: Tensor | None = None) -> Tensor:
        """Fuses the levels at `size`; shapes as above."""
        # Operations run at a level's own resolution and are resized after: the "Trans" block of Figure 7.
        states = [resize(edge(level), size) for edge, level in zip(self.outer, levels, strict=True)]
        root, states = (states[0], states[1:]) if previous is None else (resize(previous, size), states)
        nodes = self._chain(root, states)
        if self.topology == "figure" and previous is None:
            nodes.append(root)  # Figure 7 draws the first cell's root into its sum as well
        return self.fuse(sum(nodes[1:], nodes[0]))

    def _chain(self, root: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
        """Nodes of the cell, each (B, C, H, W), from its states and inner edges."""
        edges = iter(self.inner)
        nodes = [states[0] + next(edges)(root)]
        for state in states[1:]:
            second = state if self.topology == "released" else root
            nodes.append(state + next(edges)(nodes[-1]) + next(edges)(second))
        return nodes
