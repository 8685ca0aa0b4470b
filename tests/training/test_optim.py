"""Learning rates by formula, groups by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from settings.limits import SettingError
from training.optim import build_optimizer, rate_factor, set_learning_rates
from training.progress import Progress
from training.settings import OptimConfig


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
    with pytest.raises(SettingError, match=f"{name}: "):
        OptimConfig(**settings)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_first_step_that_the_scaler_skips_leaves_no_uninitialised_state(name, monkeypatch):
    """The fused kernel allocates a momentum without setting it; memory that held NaN must not reach the weights."""
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *given, **more: empty(*given, **more).fill_(torch.nan))
    torch.manual_seed(0)
    layer, twin = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    twin.load_state_dict(layer.state_dict())
    config = OptimConfig(name=name, lr=0.1)
    optimizer, reference = build_optimizer(layer, config), build_optimizer(twin, config)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (torch.inf, 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale((layer(torch.ones(2, 4)) ** 2).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    for _ in range(2):  # the same two steps that were not skipped
        reference.zero_grad()
        (twin(torch.ones(2, 4)) ** 2).sum().backward()
        reference.step()
    assert all(torch.isfinite(weight).all() for weight in layer.parameters())
    torch.testing.assert_close(layer.weight, twin.weight)


def test_a_momentum_of_zero_changes_no_bit_of_sgd():
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(33, 17), torch.nn.Linear(33, 17)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, OptimConfig(lr=0.05))
    plain = torch.optim.SGD(theirs.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    for _ in range(3):
        images = torch.randn(5, 33)
        for layer, moves in ((ours, optimizer), (theirs, plain)):
            moves.zero_grad()
            layer(images).square().sum().backward()
            moves.step()
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


def test_learning_rates_are_set_from_the_position():
    layer = torch.nn.Linear(2, 1)
    config = OptimConfig(schedule="cosine", warmup=0.5, lr=0.2)
    optimizer = build_optimizer(layer, config)
    factor = set_learning_rates(optimizer, config, Progress(epoch=0, batch=1), batches=4, epochs=2)
    assert factor == pytest.approx(0.5) and {group["lr"] for group in optimizer.param_groups} == {0.1}
