"""Rewrites a trained network for inference: the same map from fewer operations.

Every step is exact algebra, none is an approximation:
- BatchNorm goes into the convolution before it; a 3x3 convolution and the 1x1 after it become one 3x3;
- only P1's head is kept; `none` edges and unread features are removed; an edge fed by zeros becomes its constant;
- a ReLU of a positive feature is removed; adding a feature to a convolution of itself becomes a tap of the kernel;
- a bilinear resize down by f reads the two middle pixels of every f, in both directions. It becomes the stride of the
  convolution before it, or moves before that convolution where the dilation allows it;
- attention weighs only the pixels that such a resize reads;
- a resize or pooling that two edges share is computed once;
- the head's convolution to one channel and the resize of that channel become products that libraries compute quickly.

The block on E5 (`net.context`) runs as it is.

The result is a torch.fx graph for one input size, because the sizes of the cells decide which steps hold.
"""

import operator
from typing import cast

import torch
from torch import fx, nn

from inference.folding.algebra import Kernel, apart, norm_terms, plus_identity, then_affine
from inference.folding.graph_builder import Builder, Constant, Live, Size, Value
from inference.folding.operation import convolutions, fold_operation
from inference.folding.tracing import inline, trace
from net.auto_msfnet import AutoMSFNet
from net.fusion_cell import ConvBNReLU, FusionCell
from utils.errors import UserError

HEAD = "head"
"""Start of the names of what computes the logits from the last cell; engines keep it in float32."""


class FoldError(UserError):
    """A network that cannot be folded."""


def fold(network: AutoMSFNet, size: int | Size) -> fx.GraphModule:
    """Rewrites a trained network for inference at one input size.

    Args:
        network: float32; left as it is.
        size: height and width of the input, or the side of a square.

    Shapes:
        the result takes (B, 3, H, W) and returns the logits of P1, (B, 1, H, W).

    Raises:
        FoldError: if the genotype reads no level of the encoder.
    """
    size = (size, size) if isinstance(size, int) else size
    builder = Builder(cast(nn.Conv2d, network.heads[-1]).in_channels)
    with torch.no_grad():
        levels = _levels(builder, network, size)
        state: Value | None = None
        for cell, site in zip(network.cells, network.sites, strict=True):
            state = _fold_cell(builder, cast(FusionCell, cell), levels, levels[site].size, state)
        if not isinstance(state, Live):
            raise FoldError("the genotype reads no level of the image, so every map is the same. Search again.")
        for kernel in apart(Kernel.of(cast(nn.Conv2d, network.heads[-1]))):
            state = builder.conv(state, kernel, HEAD)
        return builder.finish(builder.resize_map(state, size, HEAD))


def _levels(builder: Builder, network: AutoMSFNet, size: Size) -> list[Live]:
    """E5..E2 after their lateral convolutions and the block on E5."""
    image = builder.graph.placeholder("image")
    encoder = trace(network.encoder)
    builder.modules["encoder"] = encoder
    nodes = inline(builder.graph, encoder, "encoder", image)
    if isinstance(nodes, fx.Node):  # of an encoder that could not be traced
        nodes = [builder.graph.call_function(operator.getitem, (nodes, index)) for index in range(4)]
    # The folded copy runs once, on a real image: shapes alone, on the meta device, take PyTorch's compiler and longer.
    sizes = [cast(Size, tuple(feature.shape[-2:])) for feature in encoder(torch.zeros(1, 3, *size))]
    levels = [Live(cast(fx.Node, node), size) for node, size in zip(cast(list, nodes), sizes, strict=True)]
    coarsest, *others = [
        builder.conv(level, _conv_norm(cast(ConvBNReLU, lateral)), "lateral", relu=True)
        for lateral, level in zip(network.laterals, reversed(levels), strict=True)
    ]
    return [cast(Live, fold_operation(builder, network.context, coarsest, coarsest.size)), *others]


def _conv_norm(unit: ConvBNReLU) -> Kernel:
    return then_affine(Kernel.of(cast(nn.Conv2d, unit[0])), *norm_terms(cast(nn.BatchNorm2d, unit[1])))


def _fold_cell(builder: Builder, cell: FusionCell, levels: list[Live], size: Size, previous: Value | None) -> Value:
    """`FusionCell.forward`, written into the graph instead of run."""
    states = [fold_operation(builder, edge, level, size) for edge, level in zip(cell.outer, levels, strict=True)]
    root = builder.resize(cast(Value, previous), size) if cell.wiring.root is None else states[cell.wiring.root]
    edges, nodes = iter(cell.inner), []
    for node in cell.wiring.nodes:
        own, others = [states[node.level]], []
        for source in node.reads:
            if source == "level":
                own = _with_own_edge(builder, next(edges), states[node.level], size)
            else:
                value = nodes[-1] if source == "before" else root
                others.append(fold_operation(builder, next(edges), value, size))
        nodes.append(builder.add([*own, *others]))
    if cell.wiring.root_is_summed:
        nodes.append(root)
    total = builder.add(nodes)
    if isinstance(total, Constant):
        return Constant(cell.fuse(total.tensor.expand(-1, -1, *size)))
    return builder.conv(total, _conv_norm(cell.fuse), "fuse", relu=True)


def _with_own_edge(builder: Builder, edge: nn.Module, state: Value, size: Size) -> list[Value]:
    """Terms of a node's sum: its own level and the edge from it; one convolution where the level is positive."""
    kernels = convolutions(edge)
    if kernels is not None and len(kernels) == 1 and isinstance(state, Live) and state.positive:
        return [builder.conv(state, plus_identity(kernels[0]), "conv")]
    return [state, fold_operation(builder, edge, state, size)]
