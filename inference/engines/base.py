"""What every engine provides, and what the engines share."""

import importlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from inference.errors import EngineError
from inference.settings import EngineName, EnginePrecision  # noqa: F401  # part of what engines share

INSTALL = "pip install -r requirements-deploy.txt"


class Engine(Protocol):
    """A network that is ready to run.

    Attributes:
        name: `torch`, `onnxruntime` or `openvino`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        device: where it computes.
        size: side S of its input.
        streams: how many threads may call it at once without waiting.
        batch: number of images per call at which it is fastest.
        reason: why this engine was chosen, in a clause.
    """

    name: str
    precision: str
    device: torch.device
    size: int
    streams: int
    batch: int
    reason: str

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of P1. Safe to call from several threads at once.

        Shapes:
            images: (B, 3, S, S) float32, normalised, on the CPU.
            returns: (B, 1, S, S) float32, on the CPU.
        """
        ...


@dataclass(frozen=True)
class Share:
    """How the processor is divided: `streams` calls at once, each with `threads` threads."""

    streams: int
    threads: int

    @classmethod
    def of(cls, streams: int) -> "Share":
        """Divides the threads that PyTorch would use."""
        return cls(streams, max(1, torch.get_num_threads() // streams))

    @property
    def total(self) -> int:
        """Threads of all streams together."""
        return self.streams * self.threads


def require(module: str, wanted: str) -> ModuleType:
    """Imports an optional package.

    Args:
        module: its name.
        wanted: the option that needs it, as the user gave it.

    Raises:
        EngineError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineError(f"{wanted}: needs the package {module} ({error}). Run {INSTALL}, or use another.") from None


def installed(module: str) -> bool:
    """Whether an optional package is installed."""
    return importlib.util.find_spec(module) is not None


def version(package: str) -> str:
    """The version of an installed package."""
    return importlib.metadata.version(package)


def notice(text: str) -> None:
    """Prints a line that starts with `note:` on standard error."""
    print(f"note: {text}", file=sys.stderr)


def check_images(images: Tensor, size: int) -> None:
    """Raises EngineError unless images are (B, 3, size, size)."""
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise EngineError(
            f"images {tuple(images.shape)}: this engine was built for (B, 3, {size}, {size}). "
            f"Prepare them at {size}, or build the engine for their size."
        )
