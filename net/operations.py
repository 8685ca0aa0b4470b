"""The eleven candidate operations of a FusionCell, registered by name.

Source: paper Figure 7 (legend) names them; their layers are those of the authors' released code.
"sep" and "dil" are full convolutions (no groups) followed by a 1x1, here as there.
Differs from the released code: no unused upsampling branch, and the attention operations respect `affine`.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from settings.plugins import Registry
from utils.errors import UserError

Factory = Callable[[int, bool], nn.Module]


class OperationError(UserError):
    """An operation that is not registered, or whose name is taken."""


REGISTRY: Registry[Factory] = Registry("operation", OperationError)
"""Factories `(channels, affine) -> nn.Module` that map (B, C, H, W) to (B, C, H, W), by name."""


def operation(name: str, source: str = "user") -> Callable[[Factory], Factory]:
    """Registers a factory `(channels, affine) -> nn.Module` under a name that genotypes may use.

    Raises:
        OperationError: if the name is taken.
    """
    return REGISTRY.register(name, source)


def names() -> tuple[str, ...]:
    """Names of all registered operations, the paper's eleven first."""
    return REGISTRY.names()


def build(name: str, channels: int, affine: bool = True) -> nn.Module:
    """Builds one operation.

    Args:
        name: a registered name.
        channels: width C of its input and its output.
        affine: whether its BatchNorm layers learn a scale and a shift. A search turns it off.

    Raises:
        OperationError: if the name is not registered.
    """
    return REGISTRY.find(name)(channels, affine)


def check(wanted: Iterable[str], channels: int) -> None:
    """Checks that operations can be built with that width, without computing anything.

    Raises:
        OperationError: for the first that is not registered or does not support the width.
    """
    with torch.device("meta"):
        for name in dict.fromkeys(wanted):
            build(name, channels)


class Zero(nn.Module):
    """`none`: no connection. (B, C, H, W) -> zeros of that shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros of the input's shape; the input gets no gradient."""
        return torch.zeros_like(x)


def _conv_bn(channels: int, affine: bool, dilation: int, pointwise: bool, inner: bool) -> list[nn.Module]:
    """ReLU, 3x3, optional 1x1, BatchNorm: the unit of every convolutional candidate.

    The ReLU of an `inner` unit works in place: it alone reads the BatchNorm before it, whose gradient needs its input.
    """
    layers: list[nn.Module] = [
        nn.ReLU(inplace=inner),
        nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
    ]
    if pointwise:
        layers.append(nn.Conv2d(channels, channels, 1, bias=False))
    return [*layers, nn.BatchNorm2d(channels, affine=affine)]


def _sums(x: Tensor) -> torch.dtype:
    """The dtype for sums over x: float32 or wider."""
    return torch.promote_types(x.dtype, torch.float32)


class SpatialAttention(nn.Module):
    """Weighs every position by its mean and maximum over the channels, then mixes the channels.

    Args:
        channels: width C.
        affine: see `build`.

    Shapes:
        x: (B, C, H, W); returns (B, C, H, W), not negative.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.attend = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Attention, 1x1 convolution, BatchNorm, ReLU."""
        # Divided after the sum: the gradient of `mean` divides a whole feature, and in another memory layout than x.
        mean = x.sum(1, keepdim=True, dtype=_sums(x)) / x.shape[1]
        pooled = torch.cat([mean.to(x.dtype), x.amax(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        weight = torch.sigmoid(self.attend(pooled))  # (B, 1, H, W)
        return F.relu(self.norm(self.mix(x * weight)), inplace=True)  # see `_conv_bn`


class ChannelAttention(nn.Module):
    """Squeeze and excitation with a sixteenth of the channels, then a mix of the channels.

    Args:
        channels: width C, 16 at least.
        affine: see `build`.

    Shapes:
        x: (B, C, H, W); returns (B, C, H, W), not negative.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        if channels < 16:
            raise OperationError(
                f"ChannelAttention squeezes to a sixteenth, so {channels} channels leave none. "
                f"Set channels to 16 or more, or take the operation out of the genotype."
            )
        self.squeeze = nn.Linear(channels, channels // 16)
        self.excite = nn.Linear(channels // 16, channels)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Attention, 1x1 convolution, BatchNorm, ReLU."""
        mean = x.sum((2, 3), dtype=_sums(x)) / (x.shape[2] * x.shape[3])  # as in SpatialAttention
        squeezed = F.relu(self.squeeze(mean.to(x.dtype)))  # (B, C / 16)
        weight = torch.sigmoid(self.excite(squeezed))[:, :, None, None]  # (B, C, 1, 1)
        return F.relu(self.norm(self.mix(x * weight)), inplace=True)  # see `_conv_bn`


def _convolution(name: str, *, dilation: int = 1, pointwise: bool, repeat: int = 1) -> None:
    """Registers one of the seven convolutional candidates."""

    @operation(name, source="paper, Figure 7")
    def factory(channels: int, affine: bool) -> nn.Module:
        units = [
            layer for place in range(repeat) for layer in _conv_bn(channels, affine, dilation, pointwise, place > 0)
        ]
        return nn.Sequential(*units)


@operation("none", source="paper, Figure 7")
def _none(channels: int, affine: bool) -> nn.Module:
    return Zero()


@operation("skip_connect", source="paper, Figure 7")
def _skip_connect(channels: int, affine: bool) -> nn.Module:
    return nn.Identity()


_convolution("sep_conv_3x3", pointwise=True)
_convolution("sep_conv_3x3_rp2", pointwise=True, repeat=2)
_convolution("dil_conv_3x3", dilation=2, pointwise=True)
_convolution("dil_conv_3x3_rp2", dilation=2, pointwise=True, repeat=2)
_convolution("dil_conv_3x3_dil4", dilation=4, pointwise=True)
_convolution("conv_3x3", pointwise=False)
_convolution("conv_3x3_rp2", pointwise=False, repeat=2)
operation("SpatialAttention", source="paper, Figure 7")(SpatialAttention)
operation("ChannelAttention", source="paper, Figure 7")(ChannelAttention)
