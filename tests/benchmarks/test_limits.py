"""benchmarks/limits.py and what it stands on: operations are counted as they are, and the fastest way counts."""

from collections import Counter
from queue import SimpleQueue
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import limit_timers, limits
from benchmarks.limits import limit_of, scaled
from benchmarks.workload import Convolution, Product, Traffic, gmac, record, total_bytes
from tests.programs import server


def test_a_convolution_and_its_gradients_are_counted_with_their_work():
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    workload = record(lambda: layer(x).sum().backward(), fused=False)
    found = sorted((one for one in workload if isinstance(one, Convolution)), key=lambda one: one.gradients is not None)
    assert [(one.x, one.weight, one.gradients) for one in found] == [
        ((2, 4, 16, 16), (8, 4, 3, 3), None),
        ((2, 4, 16, 16), (8, 4, 3, 3), (True, True)),
    ]
    work = 2 * 8 * 8 * 8 * 4 * 9 / 1e9  # images x output channels x 8 x 8 pixels x input channels x 3 x 3
    assert gmac(workload) == pytest.approx(3 * work)


def test_views_casts_and_fused_operations_move_nothing():
    x = torch.randn(1, 4, 8, 8)

    def call():
        return F.relu(x).view(4, 64).to(torch.bfloat16)

    assert total_bytes(record(call, fused=True)) == 0
    assert record(call, fused=False) == Counter({Traffic(2 * 4 * 64 * 4): 1})  # reads and writes 256 floats


def test_a_product_is_counted_by_its_shapes():
    left, right, bias = torch.randn(3, 4), torch.randn(4, 5), torch.randn(5)
    assert record(lambda: torch.addmm(bias, left, right), fused=False) == Counter({Product((3, 4), (4, 5)): 1})


def test_the_fastest_way_of_each_operation_is_added_up(monkeypatch):
    one = Convolution((1, 4, 8, 8), (4, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    two = Traffic(1000)
    times = {one: {"slow": 3.0, "fast": 2.0}, two: {"copy": 0.5}}
    monkeypatch.setattr(limits, "measure", lambda operations, precision, rounds: times)
    limit = limit_of(Counter({one: 2, two: 4}), "fp32")
    assert limit is not None
    assert (limit.convolutions, limit.rest, limit.seconds, limit.ways) == (4.0, 2.0, 6.0, {"fast": 4.0})
    times[one] = {}  # no library computes it
    assert limit_of(Counter({one: 2}), "fp32") is None


def test_a_shorter_precision_moves_fewer_bytes():
    assert scaled(Counter({Traffic(400): 2}), "int8") == Counter({Traffic(100): 2})


@pytest.mark.parametrize("gradients", [None, (True, True), (True, False)])
@pytest.mark.parametrize("groups", [1, 8])
def test_every_way_of_a_convolution_runs(groups, gradients):
    # OpenVINO's profile counts whole microseconds; a convolution of 12 x 12 pixels may take less than one.
    one = Convolution((2, 8, 64, 64), (8, 8 // groups, 3, 3), (1, 1), (1, 1), (1, 1), groups, gradients)
    ways = limit_timers.ways_of(one, "fp32")
    assert {"torch contiguous", "torch channels last"} <= set(ways)
    assert ("ours contiguous" in ways) == (groups == 8 and gradients is not None)
    assert all(timed(1) > 0 for timed in ways.values())


def test_no_way_names_a_precision_that_the_cpu_lacks(monkeypatch):
    """PyTorch raises for some convolutions there, and computes others many times slower."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    monkeypatch.setattr(limit_timers, "installed", lambda name: False)
    one = Convolution((2, 8, 12, 12), (8, 8, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    assert limit_timers.ways_of(one, "bf16") == {} and "torch contiguous" in limit_timers.ways_of(one, "fp32")


def test_processes_measure_side_by_side(monkeypatch):
    operations = [Traffic(1 << 16), Product((16, 16), (16, 16))]
    with server() as context:
        monkeypatch.setattr(limit_timers, "get_context", lambda _: context)
        timed = limit_timers.measure(operations, "fp32", 1)
    assert all(timed[one] and min(timed[one].values()) > 0 for one in operations)


def test_what_fails_in_a_process_is_told():
    broken = Convolution((1, 4, 8, 8), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1)  # 4 channels into a kernel of 3
    answers = SimpleQueue()
    limit_timers._time_all([broken], "fp32", 1, torch.get_num_threads(), Barrier(1), answers)
    assert "RuntimeError" in answers.get()
