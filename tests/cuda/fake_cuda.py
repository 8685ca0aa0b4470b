"""A CUDA device that does not exist: shapes, types, layouts and devices of what CUDA would do, without numbers.

Inside `fake_cuda()`, `torch.empty(2, device="cuda")` is a fake tensor whose device is cuda:0. Tensors of two devices in
one operation raise, CUDA's own autocast lists apply, and an operation whose result has a size that only the device
knows (boolean indexing, `nonzero`) raises. Every operator is recorded, and every place where the host waits for the
device is listed. Values that the host reads are dummies: 1.0 and True.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cuda import python_autograd

CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).resolve().parents[2]
aten = torch.ops.aten
PRODUCTS = {aten.conv2d, aten.convolution, aten.convolution_backward, aten.linear, aten.mm, aten.addmm, aten.bmm}


def _no_result(*arguments, **options) -> None:
    """What a fused in-place optimizer returns."""


_LIBRARY = torch.library.Library("aten", "IMPL")
if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "Meta"):  # PyTorch 2.14 has none
    _LIBRARY.impl("_fused_sgd_", _no_result, "Meta")


class Record(TorchDispatchMode):
    """What was dispatched inside the block.

    Attributes:
        waits: where the host waited for the device, as `file.py:function`.
        operators: how often every operator ran on the device.
        types: floating-point type of the first tensor -> count, of convolutions and matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.operators: Counter[str] = Counter()
        self.types: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        on_device = any(map(_on_cuda, _tensors(args)))
        if on_device:
            self._count(func, args)
        if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            if on_device:
                self.wait()
            return 1.0
        result = func(*args, **(kwargs or {}))
        if on_device and isinstance(result, FakeTensor) and not _on_cuda(result):
            self.wait()  # copied to the host
        return result

    def _count(self, func, args) -> None:
        self.operators[func.overloadpacket.__name__] += 1
        if func.overloadpacket in PRODUCTS:
            self.types[args[0].dtype] += 1

    def wait(self) -> None:
        """Notes a wait at the innermost frame of the project."""
        frames = traceback.extract_stack()
        ours = [one for one in frames if one.filename.startswith(str(ROOT)) and ".venv" not in one.filename]
        named = [f"{Path(one.filename).name}:{one.name}" for one in ours if "/tests/cuda/" not in one.filename]
        self.waits.append(named[-1] if named else "test")


@contextlib.contextmanager
def fake_cuda() -> Iterator[Record]:
    """See the module; gives the record."""
    record = Record()
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
        patch.setattr(torch.autograd, "backward", python_autograd.backward)
        patch.setattr(torch.autograd, "grad", python_autograd.grad)
        patch.setattr(torch.Tensor, "backward", lambda self, *a, **k: python_autograd.backward(self))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(record)
        for kind, name, dummy in ((FakeTensor, "tolist", _listed), (torch.Tensor, "numpy", _array)):
            patch.setattr(kind, name, _read(record, getattr(kind, name), dummy))
        yield record


def _read(record: Record, original, dummy):
    """A method that reads a tensor's memory: a fake one has none, so it gives a dummy."""

    def method(self, *arguments, **options):
        if not isinstance(self, FakeTensor):
            return original(self, *arguments, **options)
        if _on_cuda(self):
            record.wait()
        return dummy(self)

    return method


def _tensors(values) -> Iterator[FakeTensor]:
    for value in values:
        if isinstance(value, FakeTensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _on_cuda(value: object) -> bool:
    return isinstance(value, FakeTensor) and value.device.type == "cuda"


def _array(tensor: torch.Tensor) -> np.ndarray:
    if _on_cuda(tensor):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")  # as PyTorch
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _listed(tensor: torch.Tensor):
    return 1.0 if tensor.dim() == 0 else [_listed(one) for one in tensor]
