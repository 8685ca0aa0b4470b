"""Writes one edge of a FusionCell into a graph, together with the resize that follows it.

Only layers whose mathematics is known here are folded. Everything else runs unchanged.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import fx, nn

from inference.folding.algebra import (
    Kernel,
    keeps_size,
    norm_terms,
    then_affine,
    then_pointwise,
    then_shrink,
    understood,
)  # fmt: skip
from inference.folding.graph_builder import Builder, Constant, Live, Size, Value
from inference.folding.tracing import inline, opaque, trace
from net.operations import ChannelAttention, SpatialAttention, Zero


def fold_operation(builder: Builder, edge: nn.Module, x: Value, size: Size) -> Value:
    """The output of an operation, resized to `size`.

    An operation that the paper does not define runs unchanged, except that BatchNorm goes into a plain convolution
    before it.
    """
    if isinstance(x, Constant):
        return builder.resize(Constant(edge(x.tensor)), size)
    if understood(edge, Zero):
        return builder.zero(size)
    if understood(edge, nn.Identity):
        return builder.resize(x, size)
    if understood(edge, SpatialAttention, ChannelAttention):
        return _attention(builder, cast(SpatialAttention | ChannelAttention, edge), x, size)
    kernels = convolutions(edge)
    return _other(builder, edge, x, size) if kernels is None else _chain(builder, kernels, x, size)


def convolutions(edge: nn.Module) -> list[Kernel] | None:
    """The kernels of a sequence of units (ReLU, convolution, 1x1 convolutions or BatchNorms), one for each unit.

    Returns:
        None for anything else.
    """
    if not understood(edge, nn.Sequential):
        return None
    kernels: list[Kernel] = []
    opened = False  # a unit whose convolution has not been seen yet
    for layer in cast(nn.Sequential, edge):
        if understood(layer, nn.ReLU) and not opened:
            opened = True
        elif isinstance(layer, nn.Conv2d) and opened and keeps_size(layer):
            kernels.append(Kernel.of(layer))
            opened = False
        elif isinstance(layer, nn.Conv2d) and kernels and not opened and _pointwise(layer):
            kernels[-1] = then_pointwise(kernels[-1], Kernel.of(layer))
        elif isinstance(layer, nn.BatchNorm2d) and kernels and not opened and _fixed(layer):
            kernels[-1] = then_affine(kernels[-1], *norm_terms(layer))
        else:
            return None
    return kernels if kernels and not opened else None


def _pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and keeps_size(conv)


def _fixed(norm: nn.BatchNorm2d) -> bool:
    """Whether a norm uses running statistics: without them it depends on the batch."""
    return understood(norm, nn.BatchNorm2d) and norm.running_mean is not None


def shrinkage(size: Size, target: Size) -> int:
    """The even factor by which `target` is smaller than `size` in both directions; 1 if there is none."""
    factor = size[0] // target[0]
    exact = (target[0] * factor, target[1] * factor) == size
    return factor if exact and factor % 2 == 0 else 1


def _chain(builder: Builder, kernels: list[Kernel], x: Live, size: Size) -> Value:
    """ReLU and convolution in turn; the last convolution includes the resize."""
    for kernel in kernels[:-1]:
        x = builder.conv(builder.relu(x), kernel)
    x, last, factor = builder.relu(x), kernels[-1], shrinkage(x.size, size)
    if factor > 1 and last.dilation % factor == 0:
        # The taps lie a multiple of `factor` apart, so they read whole pixels of the smaller feature: resize first.
        narrow = replace(last, dilation=last.dilation // factor, padding=last.padding // factor)
        return builder.conv(cast(Live, builder.resize(x, size)), narrow)
    shrunk = then_shrink(last, factor) if factor > 1 else None
    return builder.resize(builder.conv(x, last), size) if shrunk is None else builder.conv(x, shrunk)


def _attention(builder: Builder, edge: SpatialAttention | ChannelAttention, x: Live, size: Size) -> Value:
    """ReLU(norm(mix(gate * x))), resized."""
    gate = _positions(builder, edge, x) if isinstance(edge, SpatialAttention) else _channels(builder, edge, x)
    mix = then_affine(Kernel.of(edge.mix), *norm_terms(edge.norm))
    factor = shrinkage(x.size, size)
    if factor < 4:  # all pixels are read
        weighed = builder.call("mul", x.node, gate)
        return builder.resize(builder.conv(Live(weighed, x.size), mix, relu=True), size)
    # Each output pixel reads four pixels. They lie side by side in the batch; ReLU(y / 4) is ReLU(y) / 4.
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
    """Weights of the positions, (B, 1, h, w)."""
    pooled = builder.concatenate([builder.call("mean", x.node, 1, True), builder.call("amax", x.node, 1, True)], 1)
    return builder.call("sigmoid", builder.conv(Live(pooled, x.size), Kernel.of(edge.attend), "gate").node)


def _channels(builder: Builder, edge: ChannelAttention, x: Live) -> fx.Node:
    """Weights of the channels, (B, C, 1, 1); the linear layers become 1x1 convolutions of one pixel."""
    mean = Live(builder.call("mean", x.node, (2, 3), True), (1, 1))
    squeezed = builder.conv(mean, _linear(edge.squeeze), "gate", relu=True)
    return builder.call("sigmoid", builder.conv(squeezed, _linear(edge.excite), "gate").node)


def _linear(linear: nn.Linear) -> Kernel:
    return Kernel(linear.weight.detach().double()[:, :, None, None], linear.bias.detach().double())


def _other(builder: Builder, edge: nn.Module, x: Live, size: Size) -> Value:
    """An operation that this module does not support; its output is resized whatever size it has."""
    traced = trace(edge)
    node = inline(builder.graph, traced, builder.adopt(traced, "operation"), x.node)
    if not isinstance(node, fx.Node):  # the trace is a constant
        traced = opaque(edge)
        node = cast(fx.Node, inline(builder.graph, traced, builder.adopt(traced, "operation"), x.node))
    measured = _output_size(edge, builder.channels, x.size)
    return builder.resize(Live(node, measured), size)


def _output_size(edge: nn.Module, channels: int, size: Size) -> Size:
    """Height and width of an operation's output, from a run on zeros.

    The device `meta` computes shapes alone, but LayerNorm there loads PyTorch's compiler, which delays the first map.
    """
    with torch.no_grad():
        output = edge(torch.zeros(1, channels, *size))
    return cast(Size, tuple(output.shape[-2:]))
