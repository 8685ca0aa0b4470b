"""Speed, memory and the size of a step."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import throughput
from training.throughput import Throughput, UpdateNorm, duration, peak_memory

ROOT = Path(__file__).resolve().parents[2]


def test_images_a_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    counter = Throughput()
    counter.count(30)
    now[0] += 10
    assert counter.read() == pytest.approx(3)
    counter.count(4)
    now[0] += 2
    assert counter.read() == pytest.approx(2) and counter.total() == pytest.approx(12)


def test_memory_counts_what_was_in_use():
    before = peak_memory(torch.device("cpu"))
    block = torch.ones(int(before + 64) * 2**20, dtype=torch.uint8)
    assert peak_memory(torch.device("cpu")) > before + 32
    del block


def test_update_norm():
    layer = torch.nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    norm = UpdateNorm(layer.parameters())
    with torch.no_grad():
        layer.weight += torch.tensor([[3.0, 4.0]])
        layer.bias += 100
    assert norm().item() == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.6, "4 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (3599.8, "1 h 0 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_a_child_does_not_begin_at_its_parents_peak():
    ballast = torch.ones(300 * 2**18)  # 300 MiB here, which a small child does not have
    code = "import torch; from training.throughput import peak_memory; print(peak_memory(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    empty = float(told)
    assert 50 < empty < peak_memory(torch.device("cpu")) - 250
    del ballast
