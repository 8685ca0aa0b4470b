"""A CUDA device that does not exist: shapes, types, layouts and devices of what CUDA would do, without numbers.

The tests in tests/cuda run the programs' steps on it, and `operators.py` counts. Inside `fake_cuda()`,
`torch.empty(2, device="cuda")` is a fake tensor whose device is cuda:0. Tensors of two devices in one operation raise,
CUDA's own autocast lists apply, and an operation whose result has a size that only the device knows (boolean indexing,
`nonzero`) raises. Every operator is recorded, and every place where the host waits for the device is listed. Values
that the host reads are dummies: 1.0 and True.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils as foreach
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import python_autograd

optimizers = import_module("torch.optim.optimizer")  # no attribute of torch.optim
CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).resolve().parents[1]
aten = torch.ops.aten
PRODUCTS = {aten.conv2d, aten.convolution, aten.convolution_backward, aten.linear, aten.mm, aten.addmm, aten.bmm,
            aten.baddbmm}  # fmt: skip
VIEWS = frozenset({
    "alias", "as_strided", "detach", "expand", "narrow", "permute", "select", "slice", "split", "split_with_sizes",
    "squeeze", "t", "transpose", "unbind", "unflatten", "unsqueeze", "view",
})  # fmt: skip
"""Operators that give another view of the same memory: they run on the host only."""


def _no_result(*arguments: Any, **options: Any) -> None:
    """What a fused in-place optimizer returns."""


_LIBRARY = torch.library.Library("aten", "IMPL")
if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "Meta"):  # PyTorch 2.14 has none
    _LIBRARY.impl("_fused_sgd_", _no_result, "Meta")


class Record(TorchDispatchMode):
    """What was dispatched inside the block.

    Attributes:
        waits: where the host waited for the device, as `file.py:function`.
        operators: how often every operator ran on the device, views included.
        types: floating-point type of the first tensor -> count, of convolutions and matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.operators: Counter[str] = Counter()
        self.types: Counter[torch.dtype] = Counter()

    def clear(self) -> None:
        """Forgets everything."""
        for part in (self.waits, self.operators, self.types):
            part.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # not an operator: a fake tensor is asked for its device
            return args[0].fake_device
        on_device = any(map(_on_cuda, _tensors(args)))
        if on_device:
            self._count(func, args)
        if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            if on_device:
                self.wait()
            return 1.0
        direct = _DIRECT.get(func) if on_device and len({one.fake_device for one in _tensors(args)}) == 1 else None
        result = (direct or func)(*args, **(kwargs or {}))
        if on_device and isinstance(result, FakeTensor) and not _on_cuda(result):
            self.wait()  # copied to the host
        return result

    def _count(self, func: Any, args: Any) -> None:
        self.operators[func.overloadpacket.__name__] += 1
        if func.overloadpacket in PRODUCTS:
            self.types[args[0].dtype] += 1

    def wait(self) -> None:
        """Notes a wait at the innermost frame of the project."""
        places = [
            f"{path.name}:{frame.name}"
            for frame in traceback.extract_stack()
            if (path := Path(frame.filename)).is_relative_to(ROOT)
            and not {".venv", "tests", "benchmarks"} & set(path.relative_to(ROOT).parts)
        ]
        self.waits.append(places[-1] if places else "test")


@contextlib.contextmanager
def fake_cuda() -> Iterator[Record]:
    """See the module; gives the record."""
    record = Record()
    replaced: list[tuple[Any, str, Any]] = [
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.cuda, "is_bf16_supported", lambda including_emulation=True: True),
        (torch.cuda, "get_device_capability", lambda device=None: (8, 0)),
        (torch.autograd, "backward", python_autograd.backward),
        (torch.autograd, "grad", python_autograd.grad),
        (torch.Tensor, "backward", lambda self, *a, **k: python_autograd.backward(self)),
        (FakeTensor, "tolist", _read(record, FakeTensor.tolist, _listed)),
        (torch.Tensor, "numpy", _read(record, torch.Tensor.numpy, _array)),
        # One operator for a list of tensors, as on CUDA; PyTorch refuses subclasses such as fake tensors.
        *((module, "_foreach_supported_types", [*module._foreach_supported_types, FakeTensor])
          for module in (foreach, optimizers)),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(patch.object(owner, name, value))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(record)
        yield record


def _read(record: Record, original: Callable[..., Any], dummy: Callable[[Any], Any]) -> Callable[..., Any]:
    """A method that reads a tensor's memory: a fake one has none, so it gives a dummy."""

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(self, FakeTensor):
            return original(self, *arguments, **options)
        if _on_cuda(self):
            record.wait()
        return dummy(self)

    return method


def _tensors(values: Iterable[Any]) -> Iterator[FakeTensor]:
    for value in values:
        if isinstance(value, FakeTensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _on_cuda(value: object) -> bool:
    return isinstance(value, FakeTensor) and value.fake_device.type == "cuda"


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if _on_cuda(tensor):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")  # as PyTorch
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _batch_norm(x: FakeTensor, *_: Any) -> tuple[torch.Tensor, ...]:
    mean, deviation = (torch.empty(x.shape[1], dtype=torch.float32, device=x.device) for _ in range(2))
    return torch.empty_like(x), mean, deviation


def _batch_norm_backward(gradient: FakeTensor, x: FakeTensor, weight: FakeTensor, *rest: Any) -> tuple[Any, ...]:
    _, of_weight, of_bias = rest[-1]
    return torch.empty_like(x), *(torch.empty_like(weight) if wanted else None for wanted in (of_weight, of_bias))


_DIRECT = {
    aten.native_batch_norm.default: _batch_norm,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
}
"""Results of CUDA's BatchNorm. PyTorch decomposes it to find them, which takes half of a step's time."""


def _listed(tensor: torch.Tensor) -> Any:
    return 1.0 if tensor.dim() == 0 else [_listed(one) for one in tensor]
