"""Memory: a bound on what several threads use at once, and whether the C library keeps what is freed."""

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 64 << 20  # bytes


class ByteBudget:
    """Threads wait until the bytes that they need are free; one that needs more than the limit runs alone.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Holds so many bytes for the duration of the block; never nested."""
        with self._freed:
            self._freed.wait_for(lambda: self._used == 0 or self._used + count <= self.limit)
            self._used += count
        if count >= LARGE:
            trim()
        try:
            yield
        finally:
            if count >= LARGE:
                trim()
            with self._freed:
                self._used -= count
                self._freed.notify_all()


def trim() -> None:
    """Returns freed memory to the system. glibc keeps it for each thread otherwise (`keep_memory`)."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_memory() -> None:
    """Makes glibc keep freed memory instead of returning it to the system after every large tensor.

    Without it a training step on a CPU spends an eighth of its time on page faults.
    Other C libraries are left unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # names and numbers of malloc.h
    for parameter, value in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (top_pad, 1 << 28)):
        libc.mallopt(parameter, value)
