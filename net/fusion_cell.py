"""FusionCell: four feature levels and the previous cell's output, fused along searched edges.

Source: paper Figure 2 (where the cells are) and Figure 7 (their edges). `net.wiring` describes which node reads what.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net import operations
from net.genotype import CellGenotype
from net.wiring import Source, Wiring


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, *size), align_corners=False as in the released code; keeps the dtype.

    Autocast on CUDA would return float32, and every operation after it would run in float32.
    """
    if x.shape[-2:] == size:
        return x
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ConvBNReLU(nn.Sequential):
    """3x3 convolution with bias, BatchNorm, ReLU: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        # In place: BatchNorm's gradient needs its input, not its output, and a step writes less.
        norm, rectify = nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
        super().__init__(nn.Conv2d(channels_in, channels_out, 3, padding=1), norm, rectify)


class FusionCell(nn.Module):
    """One cell of the decoder.

    Args:
        genotype: operations of this cell: four outer edges (E5, E4, E3, E2), then the inner ones.
        channels: width C of every feature map.
        wiring: which node reads what, see `net.wiring.wiring_of`.

    Shapes:
        levels: E5..E2, each (B, C, h_i, w_i), any size.
        previous: (B, C, h, w), the previous cell's output; None for the first cell.
        returns: (B, C, H, W) with (H, W) = `size`.
    """

    def __init__(self, genotype: CellGenotype, channels: int, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.outer = nn.ModuleList(operations.build(name, channels) for name in genotype.outer)
        self.inner = nn.ModuleList(operations.build(name, channels) for name in genotype.inner)
        self.fuse = ConvBNReLU(channels, channels)

    def forward(self, levels: Sequence[Tensor], size: tuple[int, int], previous: Tensor | None = None) -> Tensor:
        """Fuses the levels at `size`; shapes as above."""
        return self.combine(
            [edge(level) for edge, level in zip(self.outer, levels, strict=True)], self.inner, size, previous
        )

    def combine(
        self, outer: Sequence[Tensor], inner: Iterable[Callable[[Tensor], Tensor]], size: tuple[int, int],
        previous: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """The cell from the outputs of its outer edges on.

        Args:
            outer: as `levels`, after the outer edges.
            inner: the inner edges in order, each (B, C, H, W) -> the same.
            size: as in `forward`.
            previous: as in `forward`.
        """
        # Operations run at a level's own resolution and are resized after: the "Trans" block of Figure 7.
        states = [resize(output, size) for output in outer]
        root = states[0] if previous is None else resize(previous, size)
        edges, nodes = iter(inner), []
        for node in self.wiring.nodes:
            total = states[node.level]
            values: dict[Source, Tensor] = {"root": root, "level": total, "before": nodes[-1] if nodes else root}
            for source in node.reads:
                total = total + next(edges)(values[source])
            nodes.append(total)
        if self.wiring.root_is_summed:
            nodes.append(root)
        return self.fuse(sum(nodes[1:], nodes[0]))
