"""What a call asks of the processor: its convolutions and products by shape, and the bytes that the rest moves."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """One convolution, or the gradients of one.

    Args:
        x: shape of its input, (B, C, H, W).
        weight: shape of its weight.
        stride, padding, dilation, groups: as of `torch.nn.functional.conv2d`.
        gradients: None for the forward pass; else whether the gradients of input and weight are wanted.
    """

    x: Shape
    weight: Shape
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    gradients: tuple[bool, bool] | None = None

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved on its own."""
        return self.groups == self.x[1] == self.weight[0] > 1

    @property
    def gmac(self) -> float:
        """Multiply-accumulates, 10^9."""
        output = self.x[0] * self.weight[0] * self.out_side(0) * self.out_side(1)
        passes = 1 if self.gradients is None else sum(self.gradients)
        return passes * output * self.weight[1] * self.weight[2] * self.weight[3] / 1e9

    def out_side(self, axis: int) -> int:
        """Height (0) or width (1) of the output."""
        reach = self.dilation[axis] * (self.weight[2 + axis] - 1)
        return (self.x[2 + axis] + 2 * self.padding[axis] - reach - 1) // self.stride[axis] + 1


@dataclass(frozen=True)
class Product:
    """A matrix product: shapes of its two matrices, or of two batches of matrices."""

    left: Shape
    right: Shape


@dataclass(frozen=True)
class Traffic:
    """An operation that is bound by memory: the bytes that it reads and writes, each tensor once."""

    bytes: int


Operation = Convolution | Product | Traffic
Workload = Counter[Operation]

_CONVOLUTIONS = ("convolution", "mkldnn_convolution", "convolution_backward")
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}  # and the place of the left matrix
_NOT_NEEDED = (
    "_to_copy", "copy_", "clone", "fill_", "zero_", "zeros", "zeros_like", "ones_like", "empty", "empty_like",
    "new_empty", "new_empty_strided", "detach", "full_like", "empty_strided", "new_zeros", "full", "scalar_tensor",
    "item", "_local_scalar_dense",
)  # fmt: skip
_FUSED = ("relu", "relu_", "hardtanh", "hardtanh_", "add", "add_", "mul", "mul_", "sigmoid", "threshold")


def record(call: Callable[[], object], fused: bool) -> Workload:
    """Counts the operations of a call, which runs once.

    Args:
        call: what is recorded.
        fused: as in inference, element-wise operations are part of the convolution before them and cost nothing.

    Casts, copies and zeros are never counted: nothing that is computed needs them. A view moves nothing.
    """
    mode = _Recorder(fused)
    with mode:
        call()
    return mode.workload


def gmac(workload: Workload) -> float:
    """Multiply-accumulates of the convolutions, 10^9."""
    return sum(count * one.gmac for one, count in workload.items() if isinstance(one, Convolution))


class _Recorder(TorchDispatchMode):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.workload: Workload = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name in _CONVOLUTIONS:
            self.workload[_convolution(name, args)] += 1
        elif name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
            self.workload[Product(tuple(left.shape), tuple(right.shape))] += 1
        elif not (func.is_view or name in _NOT_NEEDED or (self.fused and name in _FUSED)):
            moved = _bytes(tree_leaves((args, kwargs))) + _bytes(tree_leaves(result))
            if moved:
                self.workload[Traffic(moved)] += 1
        return result


def _convolution(name: str, args: Any) -> Convolution:
    if name == "convolution_backward":
        _, x, weight, _, stride, padding, dilation, _, _, groups, wanted = args
        gradients = (bool(wanted[0]), bool(wanted[1]))
    else:
        x, weight, _, stride, padding, dilation, _, _, groups = args
        gradients = None
    return Convolution(
        tuple(x.shape), tuple(weight.shape), _pair(stride), _pair(padding), _pair(dilation), groups, gradients
    )


def _pair(steps: list[int]) -> Pair:
    return steps[0], steps[-1]


def _bytes(leaves: Iterable[object]) -> int:
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def total_bytes(workload: Workload) -> int:
    """Bytes of all operations that are bound by memory."""
    return sum(count * one.bytes for one, count in workload.items() if isinstance(one, Traffic))


torch_dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""The dtype of a precision in PyTorch."""
