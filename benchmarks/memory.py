"""Peak memory of one call, without what was needed to prepare it."""

import ctypes
import gc
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from training.throughput import peak_memory


def peak_of(call: Callable[[], object]) -> float:
    """Peak resident memory of this process in MiB while `call` runs.

    Memory that was freed before is handed back to the system, and Linux counts the peak anew. It matters: building
    VGG-16 with torchvision allocates 494 MB for a classifier that is dropped at once. On other systems the peak counts
    from the start of the process.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # proc(5): resets the peak
    call()
    return peak_memory(torch.device("cpu"))
