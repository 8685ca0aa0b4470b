"""What the processor can do, with injected capabilities."""

import pytest
import torch

from inference.engines import machine


@pytest.mark.parametrize(
    ("units", "saturates"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx2": True, "avx_vnni": False, "avx512_vnni": False}, True),
        ({"architecture": "x86_64", "avx2": True, "avx_vnni": True}, False),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "aarch64", "neon": True}, False),
        ({}, False),
    ],
)
def test_x86_without_vnni_saturates(monkeypatch, units, saturates):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert machine.saturates() is saturates


def test_the_processor_is_named_with_its_units(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": False, "cpu_name": "X"})
    assert machine.processor().endswith(" (avx2)")
