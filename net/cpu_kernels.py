"""Layers whose backward pass is fast on CPUs; same mathematics, same state-dict keys as the layers they replace.

In PyTorch's CPU build three gradients take half of a training step of a mobile encoder, as benchmarks/training.py
measures. They are that of a strided depthwise convolution for its input, that of a 5x5 one for its weight, and that of
ReLU6. All three are computed here by faster operations. Nothing changes on other devices or in inference.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def accelerate(module: nn.Module) -> nn.Module:
    """Replaces, in place, every depthwise convolution and ReLU6 below a module by the faster equivalent here.

    Returns:
        The module itself; its parameters stay the same objects.
    """
    for name, child in module.named_children():
        if type(child) is nn.ReLU6:
            setattr(module, name, FastReLU6())
        elif type(child) is nn.Conv2d and FastDepthwise.fits(child):
            setattr(module, name, FastDepthwise(child))
        else:
            accelerate(child)
    return module


class FastReLU6(nn.Module):
    """min(max(x, 0), 6) of a tensor of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return _ReLU6.apply(x) if x.device.type == "cpu" and x.requires_grad else F.relu6(x)  # pyright: ignore[reportReturnType]


class _ReLU6(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.relu6(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # y * (6 - y) is positive exactly where 0 < y < 6; threshold_backward is vectorised for every dtype.
        return torch.ops.aten.threshold_backward(gradients[0], y * (6 - y), 0)


class FastDepthwise(nn.Conv2d):
    """A depthwise convolution with the parameters of an nn.Conv2d that `fits`.

    Shapes:
        x: (B, C, H, W); returns (B, C, about H / stride, about W / stride).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, _square(conv.kernel_size), _square(conv.stride),
            _square(conv.padding), groups=conv.groups, bias=False,
        )  # fmt: skip
        self.weight = conv.weight

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether it is depthwise, 3x3 or 5x5, stride 1 or 2, padded with zeros to keep the size, without bias."""
        return (
            conv.groups == conv.in_channels == conv.out_channels > 1
            and conv.kernel_size in ((3, 3), (5, 5))
            and conv.stride in ((1, 1), (2, 2))
            and conv.padding == (conv.kernel_size[0] // 2,) * 2
            and conv.dilation == (1, 1)
            and conv.bias is None
            and conv.padding_mode == "zeros"
        )

    def forward(self, input: Tensor) -> Tensor:
        """The convolution; its gradients come from `_Depthwise` where that is faster."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
        return _Depthwise.apply(input, weight, _square(self.stride))  # pyright: ignore[reportReturnType]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], True)
        return *depthwise_gradients(gradients[0], x, weight, ctx.stride, wanted), None


def depthwise_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool] = (True, True)
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a depthwise convolution that `FastDepthwise.fits`, for its input and its weight.

    Args:
        gradient: that of the output, (B, C, about H / stride, about W / stride).
        x: the input, (B, C, H, W).
        weight: (C, 1, k, k).
        stride: 1 or 2.
        wanted: which of the two; None in place of the other.
    """
    for_input = _input_gradient(gradient, x, weight, stride) if wanted[0] else None
    return for_input, _weight_gradient(gradient, x, weight, stride) if wanted[1] else None


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient spread over the input's grid, convolved with the flipped kernel: stride 1, hence fast."""
    if stride > 1:
        spread = torch.zeros_like(x)  # (B, C, H, W)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    return F.conv2d(gradient, weight.flip(2, 3), padding=weight.shape[-1] // 2, groups=len(weight))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A 5x5 kernel's gradient from those of its four overlapping 3x3 corners, whose kernel is fast."""
    side = weight.shape[-1]
    if side == 3:
        return _library_gradient(gradient, x, weight, stride, padding=1)
    result = torch.empty_like(weight)  # (C, 1, 5, 5)
    corner = weight[:, :, :3, :3].contiguous()
    for top in (0, 2):
        for left in (0, 2):
            # Offsets top..top+2 and left..left+2 of a kernel padded by 2 read the input from -2+top on, and so on.
            shifted = F.pad(x, (2 - left, left, 2 - top, top))
            result[:, :, top : top + 3, left : left + 3] = _library_gradient(gradient, shifted, corner, stride, 0)
    return result


def _library_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    backward = torch.ops.aten.convolution_backward
    wanted = [False, True, False]
    steps, pads = [stride, stride], [padding, padding]
    return backward(gradient, x, weight, None, steps, pads, [1, 1], False, [0, 0], len(weight), wanted)[1]


def _square(value: Any) -> int:
    return value if isinstance(value, int) else int(value[0])
