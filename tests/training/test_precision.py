"""Precision by measurement: each branch of the choice with given timings; a real measurement changes nothing."""

import pytest
import torch

from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from training import precision
from training.precision import Timing, candidates, describe, fastest, measure, settle, trial
from training.processes import Processes
from utils.device import DeviceError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("timings", "chosen"),
    [
        ({"fp32": Timing(1.0, 2.0)}, "fp32"),
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(0.5, 2.01)}, "bf16"),
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(1.2, 2.0)}, "fp32"),  # slower: AVX512-BF16 without AMX
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(0.97, 2.0)}, "fp32"),  # within the noise
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(0.5, 2.1)}, "fp32"),  # beyond the tolerance
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(0.5, float("nan"))}, "fp32"),
        ({"fp32": Timing(1.0, 2.0), "bf16": Timing(0.8, 2.0), "fp16": Timing(0.6, 2.0)}, "fp16"),
    ],
)
def test_the_fastest_within_the_tolerance_is_taken(timings, chosen):
    assert fastest(timings) == chosen
    assert describe(timings, chosen).startswith("precision auto: fp32 1000 ms") and chosen in describe(timings, chosen)


def test_turns_alternate_until_the_budget_is_spent():
    now, calls = [0.0], []
    costs = {"fp32": iter([9.0, 2.0, 1.0, 3.0]), "bf16": iter([9.0, 0.5, 0.7, 0.6])}

    def step(name):
        calls.append(name)
        now[0] += next(costs[name])
        return 1.0 if name == "fp32" else 1.1

    found = measure(["fp32", "bf16"], step, seconds=20.0, clock=lambda: now[0])
    assert calls == ["fp32", "bf16"] * 2, "the first turn warms up, the second spends the rest"
    assert found == {"fp32": Timing(2.0, 1.0), "bf16": Timing(0.5, 1.1)}
    found = measure(["bf16"], step, seconds=1.0, clock=lambda: now[0])
    assert found["bf16"].seconds == pytest.approx(0.6), "two turns at least; the shortest after the first counts"


def test_a_trial_leaves_network_and_random_state_as_they_were(monkeypatch):
    monkeypatch.setattr(precision, "candidates", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(precision, "choose_precision", lambda name, device: name)
    network = build_network(NetworkConfig("test_efficientnet", "resnet50", 16)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    seen = []

    def loss(image, mask, name):
        seen.append((name, tuple(image.shape), tuple(mask.shape)))
        torch.rand(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
            return network(image).p1.float().sigmoid().mean() + mask.mean()

    found = trial(network, loss, batch=2, size=64, device=CPU, seconds=0.0)
    assert set(found) == {"fp32", "bf16"} and all(one.seconds > 0 for one in found.values())
    assert seen == [(name, (2, 3, 64, 64), (2, 1, 64, 64)) for name in ("fp32", "bf16")] * 2
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in network.parameters())


class Saved:
    """A session as `settle` sees it."""

    def __init__(self, found=None):
        self.processes = Processes(0, 1, CPU)
        self.saved = None if found is None else {"found": found}


def test_a_resumed_run_keeps_its_precision(monkeypatch, capsys):
    monkeypatch.setattr(precision, "choose_precision", lambda name, device: name)
    timings = {"fp32": Timing(1.0, 2.0), "bf16": Timing(0.5, 2.0)}
    assert settle("auto", Saved(), lambda device: timings) == "bf16"
    assert "fp32 1000 ms, bf16 500 ms (loss +0.00%) a step -> bf16" in capsys.readouterr().out
    never = lambda device: pytest.fail("measured again")  # noqa: E731
    assert settle("auto", Saved({"precision": "fp32"}), never) == "fp32"
    assert settle("bf16", Saved({"precision": "fp32"}), never) == "bf16"  # the session then refuses it


def test_only_supported_precisions_are_candidates(monkeypatch):
    def refuse(name, device):
        raise DeviceError("no bfloat16 units")

    monkeypatch.setattr(precision, "choose_precision", refuse)
    assert candidates(CPU) == ["fp32"]
    assert fastest(trial(torch.nn.Linear(1, 1), None, 1, 32, CPU)) == "fp32"
