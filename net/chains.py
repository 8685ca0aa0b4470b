"""Chains: candidates that consist of ReLU, convolution, optional 1x1 and BatchNorm, as `net.mixture` computes them.

Seven of the paper's eleven operations are chains. A candidate that is anything else, a subclass included, is not one,
and runs as the module that it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from net.batch_norm import BatchNorm


@dataclass(frozen=True)
class Unit:
    """ReLU, convolution, optional 1x1, BatchNorm: a part of a chain that runs as one convolution.

    Attributes:
        conv: square, stride 1, no groups, no bias.
        pointwise: a 1x1 without bias directly after it, or None.
        eps: of the BatchNorm.
    """

    conv: nn.Conv2d
    pointwise: nn.Conv2d | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Both convolutions of an input after ReLU; (B, C, H, W) -> the same."""
        conv, pointwise = self.conv, self.pointwise
        padding, dilation = conv.padding, conv.dilation
        if pointwise is None:
            return F.conv2d(x, conv.weight, padding=padding, dilation=dilation)
        # The product of the kernels costs as much as the 1x1 on k * k * C pixels.
        if x.shape[0] * x.shape[2] * x.shape[3] < conv.weight[0].numel():
            return F.conv2d(F.conv2d(x, conv.weight, padding=padding, dilation=dilation), pointwise.weight)
        kernel = pointwise.weight.flatten(1) @ conv.weight.flatten(1)  # (C, C) @ (C, C * k * k)
        return F.conv2d(x, kernel.view_as(conv.weight), padding=padding, dilation=dilation)


@dataclass(frozen=True)
class Chain:
    """A candidate that is units and nothing else; `index` is its place among the weights."""

    index: int
    units: tuple[Unit, ...]


def units_of(module: nn.Module) -> tuple[Unit, ...]:
    """The units that a candidate consists of; empty if it contains anything else."""
    if not isinstance(module, nn.Sequential):
        return ()
    units: list[Unit] = []
    layers = list(module)
    while layers:
        taken = 4 if len(layers) > 3 and isinstance(layers[2], nn.Conv2d) else 3
        unit = _unit(layers[:taken])
        if unit is None:
            return ()
        units.append(unit)
        layers = layers[taken:]
    return tuple(units)


def _unit(layers: Sequence[nn.Module]) -> Unit | None:
    """The unit that these layers form, or None."""
    # Exact types: a subclass may compute something else.
    if len(layers) < 3 or type(layers[0]) is not nn.ReLU:
        return None
    norm, convolutions = layers[-1], [layer for layer in layers[1:-1] if type(layer) is nn.Conv2d and _plain(layer)]
    if type(norm) is not BatchNorm or norm.affine:
        return None
    if len(convolutions) != len(layers) - 2 or any(conv.kernel_size != (1, 1) for conv in convolutions[1:]):
        return None
    return Unit(convolutions[0], convolutions[1] if len(convolutions) == 2 else None, norm.eps)


def _plain(conv: nn.Conv2d) -> bool:
    """Whether a convolution keeps width and resolution, has no groups, no bias and zero padding."""
    kept = all(
        pad * 2 == step * (side - 1)
        for pad, step, side in zip(_pair(conv.padding), conv.dilation, conv.kernel_size, strict=True)
    )
    return (
        kept
        and conv.in_channels == conv.out_channels
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


def _pair(padding: str | tuple[int, ...]) -> tuple[int, int]:
    """Padding in numbers; text ("same") counts as none, so such a convolution is not joined."""
    return (-1, -1) if isinstance(padding, str) else (padding[0], padding[1])
