"""State dicts are found inside the wrappers that other programs put around them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from net.state_dicts import check_values, fitting, state_dicts
from utils.checkpoint import CheckpointError

MODULE = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
WANTED = MODULE.state_dict()
AVERAGED = {key: value + 1 for key, value in WANTED.items()}


def prefixed(prefix, state=WANTED):
    return {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "bare": WANTED,
    "state_dict": {"epoch": 3, "state_dict": WANTED},
    "model": {"model": WANTED, "optimizer": {"state": {}, "param_groups": []}},
    "DataParallel": prefixed("module."),
    "compiled, parallel": {"model": prefixed("module._orig_mod.")},
    "Lightning": {
        "state_dict": {**prefixed("model."), "loss.weight": torch.zeros(1)},
        "pytorch-lightning_version": "2",
    },
    "part of a network": {**prefixed("encoder.body."), "decoder.weight": torch.zeros(3)},
    "MoCo": {"state_dict": prefixed("module.encoder_q.")},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_removed(kind):
    found = fitting(WRAPPED[kind], WANTED)
    assert set(found) == set(WANTED) and all(torch.equal(found[key], WANTED[key]) for key in WANTED)


@pytest.mark.parametrize(
    "wrapped",
    [
        {"model": WANTED, "model_ema": AVERAGED},
        {"state_dict": WANTED, "state_dict_ema": AVERAGED},
        {"model": WANTED, "ema": {"module": AVERAGED, "decay": 0.9}},
        {"ema_state_dict": prefixed("module.", AVERAGED), **WANTED},
    ],
)
def test_averaged_weights_are_preferred(wrapped):
    found = fitting(wrapped, WANTED)
    assert all(torch.equal(found[key], AVERAGED[key]) for key in WANTED)


def test_averaged_weights_of_something_else_are_not():
    found = fitting({"ema": {"other": torch.zeros(1)}, "model": WANTED}, WANTED)
    assert set(found) == set(WANTED)


def test_nothing_fits():
    assert fitting({"state_dict": {"fc.weight": torch.zeros(1)}, "epoch": 3}, WANTED) == {}
    assert [list(found) for found in state_dicts({"a": {"b": {"c.d": torch.zeros(1)}}})] == [["c.d"]]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.full((2, 1, 1, 1), float("nan")), "'0.weight' holds NaN or infinity"),
        (torch.full((2, 1, 1, 1), float("-inf")), "'0.weight' holds NaN or infinity"),
        (torch.zeros(2, 1, 1, 1, dtype=torch.int32), "'0.weight' is torch.int32, expected floating-point"),
        (torch.zeros(2, 1, 1, 1, dtype=torch.bool), "'0.weight' is torch.bool"),
        (torch.zeros(2, 1, 1, 1, dtype=torch.complex64), "'0.weight' is torch.complex64"),
    ],
)
def test_values_that_are_no_weights_are_refused(value, told):
    with pytest.raises(CheckpointError, match=f"^x.pth: {told}"):
        check_values({**WANTED, "0.weight": value}, WANTED, Path("x.pth"))
    check_values(WANTED, WANTED, Path("x.pth"))
