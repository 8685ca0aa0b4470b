"""Learning rates by formula, groups by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from training.optim import build_optimizer, rate_factor
from training.settings import OptimConfig, OptimError


def test_triangular_is_f3nets_formula():
    config = OptimConfig()
    factors = [rate_factor(config, epoch, 5, 100, 32) for epoch in range(32)]
    assert factors == pytest.approx([1 - abs((epoch + 1) / 33 * 2 - 1) for epoch in range(32)])
    assert max(factors) == pytest.approx(32 / 33)


def test_cosine_warms_up_and_ends_near_zero():
    config = OptimConfig(schedule="cosine", warmup=0.1)
    factors = [rate_factor(config, epoch, batch, 10, 10) for epoch in range(10) for batch in range(10)]
    assert factors[0] == pytest.approx(0.1) and factors[4] == pytest.approx(0.5)
    assert max(factors) == pytest.approx(1) and factors.index(max(factors)) == 9
    assert factors[-1] == 1e-4 and factors[54] == pytest.approx(0.5, abs=0.01)


@given(
    schedule=st.sampled_from(["triangular", "cosine"]), epochs=st.integers(1, 60),
    batches=st.integers(1, 500), warmup=st.floats(0, 0.9), place=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_every_rate_is_in_range(schedule, epochs, batches, warmup, place):
    config = OptimConfig(schedule=schedule, warmup=warmup)
    epoch, batch = divmod(int(place * epochs * batches), batches)
    assert 0 < rate_factor(config, epoch, batch, batches, epochs) <= 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("decay_vectors", [True, False])
def test_groups_hold_every_parameter_once(name, decay_vectors):
    network = build_network(NetworkConfig("mobilenetv3_small_050", "resnet50", 16))
    config = OptimConfig(name=name, decay_vectors=decay_vectors, weight_decay=0.1)
    optimizer = build_optimizer(network, config)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())
    rates = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in network.named_parameters():
        assert rates[id(parameter)] == (0.005 if key.startswith("encoder.") else 0.05)
        assert decays[id(parameter)] == (0.1 if decay_vectors or parameter.ndim > 1 else 0)


def test_frozen_parameters_are_left_out():
    layer = torch.nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    assert [p.shape for g in build_optimizer(layer, OptimConfig()).param_groups for p in g["params"]] == [(2,)]


@pytest.mark.parametrize("settings", [{"lr": 0}, {"encoder_lr": -1}, {"momentum": 1.0}, {"warmup": 1.5}, {"clip": -1}])
def test_bad_settings(settings):
    (name,) = settings
    with pytest.raises(OptimError, match=f"optim.{name}: "):
        OptimConfig(**settings)
