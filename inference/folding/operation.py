"""One edge of a FusionCell, written into a graph together with the resize that follows it."""

from dataclasses import replace
from typing import cast

from torch import fx, nn

from inference.folding.algebra import Kernel, norm_terms, then_affine, then_pointwise, then_shrink
from inference.folding.graph_builder import Builder, Constant, Live, Size, Value
from inference.folding.tracing import inline, trace
from net.operations import ChannelAttention, SpatialAttention, Zero


def fold_operation(builder: Builder, edge: nn.Module, x: Value, size: Size) -> Value:
    """Resizes what an operation makes of a feature to `size`.

    An operation that is none of the paper's runs as it is, its BatchNorms folded.
    """
    if isinstance(x, Constant):
        return builder.resize(Constant(edge(x.tensor)), size)
    if isinstance(edge, Zero):
        return builder.zero(size)
    if isinstance(edge, nn.Identity):
        return builder.resize(x, size)
    if isinstance(edge, SpatialAttention | ChannelAttention):
        return _attention(builder, edge, x, size)
    kernels = convolutions(edge)
    return _other(builder, edge, x, size) if kernels is None else _chain(builder, kernels, x, size)


def convolutions(edge: nn.Module) -> list[Kernel] | None:
    """The kernels of a sequence of units (ReLU, convolution, 1x1 convolutions or BatchNorms), one a unit.

    Returns:
        None for anything else.
    """
    if not isinstance(edge, nn.Sequential) or not isinstance(edge[-1], nn.Conv2d | nn.BatchNorm2d):
        return None
    kernels: list[Kernel] = []
    opened = False  # a unit whose convolution is still to come
    for layer in edge:
        if isinstance(layer, nn.ReLU) and not opened:
            opened = True
        elif isinstance(layer, nn.Conv2d) and opened and _keeps_size(layer):
            kernels.append(Kernel.of(layer))
            opened = False
        elif isinstance(layer, nn.Conv2d) and kernels and not opened and layer.kernel_size == (1, 1):
            kernels[-1] = then_pointwise(kernels[-1], Kernel.of(layer))
        elif isinstance(layer, nn.BatchNorm2d) and kernels and not opened:
            kernels[-1] = then_affine(kernels[-1], *norm_terms(layer))
        else:
            return None
    return kernels


def _keeps_size(conv: nn.Conv2d) -> bool:
    (side, other), (step, _), (dilation, _) = conv.kernel_size, conv.stride, conv.dilation
    padding = (dilation * (side // 2),) * 2
    return side == other and side % 2 == 1 and step == 1 and conv.groups == 1 and conv.padding == padding


def shrinkage(size: Size, target: Size) -> int:
    """The even factor by which `target` is smaller than `size` in both directions; 1 if there is none."""
    factor = size[0] // target[0]
    exact = (target[0] * factor, target[1] * factor) == size
    return factor if exact and factor % 2 == 0 else 1


def _chain(builder: Builder, kernels: list[Kernel], x: Live, size: Size) -> Value:
    """ReLU and convolution in turn, the last one together with the resize."""
    for kernel in kernels[:-1]:
        x = builder.conv(builder.relu(x), kernel)
    x, last, factor = builder.relu(x), kernels[-1], shrinkage(x.size, size)
    if factor > 1 and last.dilation % factor == 0:
        # Taps that lie whole steps apart read whole pixels of the smaller feature: resize, then convolve.
        narrow = replace(last, dilation=last.dilation // factor, padding=last.padding // factor)
        return builder.conv(cast(Live, builder.resize(x, size)), narrow)
    shrunk = then_shrink(last, factor) if factor > 1 else None
    return builder.resize(builder.conv(x, last), size) if shrunk is None else builder.conv(x, shrunk)


def _attention(builder: Builder, edge: SpatialAttention | ChannelAttention, x: Live, size: Size) -> Value:
    """What is attended to, weighed, mixed, ReLU."""
    gate = _positions(builder, edge, x) if isinstance(edge, SpatialAttention) else _channels(builder, edge, x)
    mix = then_affine(Kernel.of(edge.mix), *norm_terms(edge.norm))
    factor = shrinkage(x.size, size)
    if factor < 4:  # all pixels are read
        weighed = builder.call("mul", x.node, gate)
        return builder.resize(builder.conv(Live(weighed, x.size), mix, relu=True), size)
    # The four pixels that each one of the result reads, side by side in the batch; ReLU(y / 4) is ReLU(y) / 4.
    middle = (factor // 2 - 1, factor // 2)
    places = [
        (slice(None), slice(None), slice(y, None, factor), slice(x, None, factor)) for y in middle for x in middle
    ]
    everywhere = isinstance(edge, ChannelAttention)
    parts = [
        builder.call("mul", builder.take(x.node, place), gate if everywhere else builder.take(gate, place))
        for place in places
    ]
    quarters = builder.conv(Live(builder.concatenate(parts, 0), size), then_affine(mix, 0.25), relu=True)
    stacked = builder.call("unflatten", quarters.node, 0, (4, -1))  # (4, B, C, H, W)
    return Live(builder.call("sum", stacked, 0), size, positive=True)


def _positions(builder: Builder, edge: SpatialAttention, x: Live) -> fx.Node:
    """The weight of every position, (B, 1, h, w)."""
    pooled = builder.concatenate([builder.call("mean", x.node, 1, True), builder.call("amax", x.node, 1, True)], 1)
    return builder.call("sigmoid", builder.conv(Live(pooled, x.size), Kernel.of(edge.attend), "gate").node)


def _channels(builder: Builder, edge: ChannelAttention, x: Live) -> fx.Node:
    """The weight of every channel, (B, C, 1, 1); its linear layers are 1x1 convolutions of one pixel."""
    mean = Live(builder.call("mean", x.node, (2, 3), True), (1, 1))
    squeezed = builder.conv(mean, _pointwise(edge.squeeze), "gate", relu=True)
    return builder.call("sigmoid", builder.conv(squeezed, _pointwise(edge.excite), "gate").node)


def _pointwise(linear: nn.Linear) -> Kernel:
    return Kernel(linear.weight.detach().double()[:, :, None, None], linear.bias.detach().double())


def _other(builder: Builder, edge: nn.Module, x: Live, size: Size) -> Value:
    """An operation that this module does not know."""
    traced = trace(edge)
    name = builder.adopt(traced, "operation")
    return builder.resize(Live(cast(fx.Node, inline(builder.graph, traced, name, x.node)), x.size), size)
