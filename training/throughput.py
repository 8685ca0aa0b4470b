"""Throughput of a run, its peak memory, and the size of its steps."""

import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


class Throughput:
    """Images a second since the last reading, and the seconds since the start."""

    def __init__(self) -> None:
        self._start = self._since = time.perf_counter()
        self._images = 0

    def count(self, images: int) -> None:
        """Counts images that were trained on."""
        self._images += images

    def read(self) -> float:
        """Images a second since the last call, or since the start."""
        now = time.perf_counter()
        speed = self._images / max(now - self._since, 1e-9)
        self._since, self._images = now, 0
        return speed

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start


def peak_memory(device: torch.device) -> float:
    """Peak memory of this process in MiB: of the GPU on CUDA, else resident in main memory; NaN on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: there ru_maxrss begins at what the process that started this one had
        (line,) = (line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class UpdateNorm:
    """Size of one step of the optimizer. It copies all weights, so it is not measured at every step.

    Args:
        parameters: before the step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._before = [parameter.detach().clone() for parameter in self._parameters]

    def __call__(self) -> Tensor:
        """Euclidean norm of the change of all parameters since, a scalar on their device."""
        return norm([now.detach() - then for now, then in zip(self._parameters, self._before, strict=True)])


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all of them together, a scalar."""
    return torch.stack([one.norm() for one in tensors]).norm()


def duration(seconds: float) -> str:
    """Seconds in words: `4 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
