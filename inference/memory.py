"""A bound on the memory that several threads use at once, counted in bytes."""

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
    """Returns freed memory to the system. glibc keeps it for each thread otherwise (`utils.device.keep_memory`)."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
