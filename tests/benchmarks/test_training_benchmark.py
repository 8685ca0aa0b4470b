"""The benchmark's variants are one network and one loss, and its report states what was measured."""

import json

import pytest
import torch

from benchmarks import training
from benchmarks.limits import Limit
from benchmarks.training import VARIANTS, operators_of, plain_dilate, report, rows_of
from benchmarks.workload import Convolution, total_bytes
from net import losses
from net.auto_msfnet import build_network
from net.settings import NetworkConfig

VARIANTS_OF = {
    variant: [{"seconds": seconds, "memory_mib": 1000.0, "precision": "bf16", "op conv": seconds / 2, "op add": 0.01}]
    for variant, seconds in zip(VARIANTS, (8.0, 5.0, 4.0, 2.0), strict=True)
}


@pytest.mark.parametrize("width", [3, 5, 7])
def test_the_plain_loop_has_the_same_windows(width):
    x = torch.rand(4, 1, 20, 31)
    assert torch.equal(plain_dilate(x, width), losses._dilate(x, width))


def test_rows_are_ratios_to_the_fastest_plain_loop():
    float32, _, bf16, ours = rows_of("resnet50", VARIANTS_OF)
    assert float32[3:] == ["float32", "1", "1.00 (1.00 to 1.00)", "0.50 x", "1000"]
    assert bf16[6] == "1.00 x"
    assert ours[3:] == ["ours, bf16", "1", "4.00 (4.00 to 4.00)", "2.00 x", "1000"]


def test_operators_are_sorted_by_their_time():
    lines = operators_of("resnet50", VARIANTS_OF)
    assert lines[5:] == [
        "| `conv` | 4000 | 2500 | 2000 | 1000 |",
        "| `add` | 10 | 10 | 10 | 10 |",
        "| all | 4010 | 2510 | 2010 | 1010 |",
    ]


def test_the_share_is_the_limit_over_our_step(tmp_path, capsys):
    limit = Limit(convolutions=1.2, products=0.1, rest=0.3, ways={})
    report({"resnet50": VARIANTS_OF}, {"resnet50": limit}, {}, tmp_path / "training.md")
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == {"resnet50_over_plain": 2.0, "resnet50_share": 0.8, "resnet50_memory_mib": 1000}
    assert "together 1600 ms. Our step takes 2000 ms: 80 % of the limit." in (tmp_path / "training.md").read_text()


def test_a_step_is_recorded_whole(monkeypatch):
    small = (NetworkConfig("test_efficientnet", "resnet50", 16), 2, 64)
    monkeypatch.setitem(training.NETWORKS, "lite", small)
    workload = training.step_workload("lite", "fp32")
    backward = {one for one in workload if isinstance(one, Convolution) and one.gradients is not None}
    forward = {one for one in workload if isinstance(one, Convolution) and one.gradients is None}
    assert {(one.x, one.weight) for one in backward} == {(one.x, one.weight) for one in forward}
    parameters = sum(one.numel() for one in build_network(small[0]).parameters())
    assert total_bytes(workload) > 3 * 4 * parameters  # the update alone reads weights, gradients and momentum
