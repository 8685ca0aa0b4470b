"""Exact algebra on convolution weights: the linear layers between two nonlinearities become one convolution.

All sums are taken in float64 and rounded once at the end, so folding loses no accuracy.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


def understood(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is exactly one of these classes, without hooks: a subclass may compute something else."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) in kinds and not hooked


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution is square and odd, with zero padding, stride 1, one group, and output as large as input."""
    (side, other), dilation = conv.kernel_size, conv.dilation[0]
    square = side == other and side % 2 == 1 and conv.dilation == (dilation, dilation)
    plain = conv.padding_mode == "zeros" and conv.stride == (1, 1) and conv.groups == 1
    padding = (dilation * (side // 2),) * 2
    return understood(conv, nn.Conv2d) and square and plain and conv.padding in (padding, "same")


@dataclass(frozen=True)
class Kernel:
    """A convolution as data: zero padding; stride, dilation and padding equal in both directions.

    Attributes:
        weight: (O, C / groups, k, k), float64.
        bias: (O,), float64.
        stride, padding, dilation, groups: as in nn.Conv2d.
    """

    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "Kernel":
        """The kernel of a module with zero padding, and with stride, dilation and padding equal in both directions."""
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
        padding = conv.dilation[0] * (conv.kernel_size[0] // 2) if conv.padding == "same" else int(conv.padding[0])
        return cls(weight, bias, conv.stride[0], padding, conv.dilation[0], conv.groups)

    def module(self) -> nn.Conv2d:
        """An nn.Conv2d of this kernel, float32, without gradients."""
        out, width, side, _ = self.weight.shape
        conv = nn.Conv2d(
            width * self.groups, out, side, self.stride, self.padding, self.dilation, self.groups, device="meta"
        )
        conv.weight = nn.Parameter(self.weight.float(), requires_grad=False)
        conv.bias = nn.Parameter(self.bias.float(), requires_grad=False)
        return conv


def norm_terms(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A BatchNorm in eval mode as scale and shift, each (C,) float64: norm(x) = scale * x + shift."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.detach().double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def then_affine(kernel: Kernel, scale: Tensor | float, shift: Tensor | float = 0.0) -> Kernel:
    """scale * kernel(x) + shift, each (O,) or a number, as one kernel."""
    factor = torch.as_tensor(scale, dtype=torch.float64).expand(len(kernel.bias))
    return replace(kernel, weight=kernel.weight * factor[:, None, None, None], bias=kernel.bias * factor + shift)


def then_pointwise(kernel: Kernel, mix: Kernel) -> Kernel:
    """A kernel followed by a 1x1 convolution, as one kernel of the first one's size."""
    matrix = mix.weight[:, :, 0, 0]  # (P, O)
    weight = torch.einsum("po,ocij->pcij", matrix, kernel.weight)
    return replace(kernel, weight=weight, bias=matrix @ kernel.bias + mix.bias)


def then_shrink(kernel: Kernel, factor: int) -> Kernel | None:
    """A kernel of stride 1 that keeps the size, followed by a bilinear resize down by `factor`, as one strided kernel.

    Shrinking by an even factor f averages the two middle pixels of each f in each direction, f/2 - 1 and f/2.
    So n taps d apart become taps at 0 and 1 past each of them: n(d + 1) - d + 1 places at most, at 1/f^2 of the sites.

    Returns:
        The kernel; None where it would cost more than the two apart.
    """
    side, dilation = kernel.weight.shape[-1], kernel.dilation
    reach = dilation * (side - 1)
    wide = reach + 2
    padding = kernel.padding - (factor // 2 - 1)
    if padding < 0 or wide**2 >= (side * factor) ** 2:
        return None
    weight = kernel.weight.new_zeros(*kernel.weight.shape[:2], wide, wide)
    for top in (0, 1):
        for left in (0, 1):
            weight[:, :, top : top + reach + 1 : dilation, left : left + reach + 1 : dilation] += kernel.weight / 4
    return replace(kernel, weight=weight, stride=factor, padding=padding, dilation=1)


def apart(kernel: Kernel) -> tuple[Kernel, Kernel]:
    """A convolution to one channel as a 1x1 convolution, which multiplies, and one of its own size, which only adds.

    Libraries compute several channels at a time, so a single one costs them as much as many.

    Args:
        kernel: weight (1, C, k, k), one group, stride 1.

    Returns:
        Kernels with weights (k * k, C, 1, 1) and (1, k * k, k, k), to be run in this order.
    """
    taps, side = kernel.weight.shape[-1] ** 2, kernel.weight.shape[-1]
    mix = kernel.weight[0].flatten(1).T[:, :, None, None]  # (taps, C, 1, 1)
    gather = torch.eye(taps, dtype=mix.dtype).view(1, taps, side, side)
    return Kernel(mix, mix.new_zeros(taps)), replace(kernel, weight=gather)


def plus_identity(kernel: Kernel) -> Kernel:
    """kernel(x) + x as one kernel; it must keep size and channels, have an odd side and one group."""
    weight = kernel.weight.clone()
    centre = weight.shape[-1] // 2
    weight[:, :, centre, centre] += torch.eye(len(weight), dtype=weight.dtype)
    return replace(kernel, weight=weight)
