"""Settings of the C library's memory."""

import pytest

from inference import memory


def test_keep_memory_is_harmless_without_glibc(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("musl", "1"))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("another C library was changed"))
    memory.keep_memory()
