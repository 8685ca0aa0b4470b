"""The processor, as far as it decides which engine and precision are fast."""

import os
import platform
from pathlib import Path

import torch

BUSY = 0.75
"""Load per core from which a measurement is not trusted."""

_VNNI = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
"""Units that add products of 8-bit numbers in 32 bits."""


def processor() -> str:
    """Model name and the units that PyTorch and the other engines may use, such as bfloat16 and AMX."""
    units = sorted(name for name, there in torch.cpu.get_capabilities().items() if there is True)
    return f"{_model()} ({', '.join(units)})"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> bool:
    """Whether other programs use the processor: the load of the last minute exceeds `BUSY` per core."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY * cores()


def saturates() -> bool:
    """Whether products of 8-bit numbers saturate: x86 without VNNI adds two of them in 16 bits.

    With weights of 7 bits no such sum exceeds 16 bits.
    """
    units = torch.cpu.get_capabilities()
    return units.get("architecture") == "x86_64" and not any(units.get(name) for name in _VNNI)


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
