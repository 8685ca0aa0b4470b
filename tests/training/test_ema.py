"""The average is its formula, begins well, and leaves the network as it was."""

import pytest
import torch
from torch import nn

from settings.limits import SettingError
from training.ema import Average
from training.settings import AverageConfig


def network(value):
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    nn.init.constant_(layers[0].weight, value)
    return layers


def test_it_is_its_formula():
    layers = network(0.0)
    average, expected = Average(layers, AverageConfig(decay=0.9, warmup=10)), 0.0
    for step in range(1, 200):
        nn.init.constant_(layers[0].weight, float(step))
        layers[1].num_batches_tracked += 1
        average.update(layers)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    assert average.weights["0.weight"][0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert average.weights["1.num_batches_tracked"].item() == 199


def test_the_warm_up_forgets_where_the_average_began():
    shares = {}
    for warmup in (1.0, 10.0):
        layers = network(1.0)
        average = Average(layers, AverageConfig(decay=0.999, warmup=warmup))
        nn.init.zeros_(layers[0].weight)
        for _ in range(100):
            average.update(layers)
        shares[warmup] = average.weights["0.weight"][0, 0].item()
    assert shares[1.0] > 0.9, "without a warm-up the initial weights stay"
    assert shares[10.0] < 1e-8


def test_applied_puts_the_networks_own_weights_back():
    torch.manual_seed(0)
    layers = network(1.0)
    average = Average(layers, AverageConfig(decay=0.5))
    layers(torch.randn(4, 2)).sum().backward()
    nn.init.normal_(layers[0].weight)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    with pytest.raises(ZeroDivisionError), average.applied(layers):
        assert torch.equal(layers[0].weight, torch.ones(2, 2))
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())


def test_it_resumes_to_the_bit():
    layers = network(1.0)
    one = Average(layers, AverageConfig(decay=0.99))
    nn.init.normal_(layers[0].weight)
    one.update(layers)
    two = Average(network(5.0), AverageConfig(decay=0.99))
    two.load_state_dict(one.state_dict())
    for average in (one, two):
        average.update(layers)
    assert all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def test_all_tensors_at_once_give_the_bits_of_one_by_one():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 37, 3), nn.BatchNorm2d(37), nn.Linear(37, 1001))
    average = Average(layers, AverageConfig(decay=0.97))
    expected = {name: value.clone() for name, value in average.weights.items()}
    for step in range(1, 30):
        for value in layers.state_dict().values():
            value.copy_(torch.randn(value.shape) * step if value.is_floating_point() else torch.tensor(step))
        average.update(layers)
        keep = min(0.97, (1 + step) / (10 + step))
        for name, value in layers.state_dict().items():
            expected[name] = expected[name].lerp(value, 1 - keep) if value.is_floating_point() else value.clone()
    assert all(torch.equal(value, expected[name]) for name, value in average.weights.items())


@pytest.mark.parametrize("settings", [{"decay": 1.0}, {"decay": -0.1}, {"warmup": 0.5}])
def test_bad_settings(settings):
    (name,) = settings
    with pytest.raises(SettingError, match=f"{name}: "):
        AverageConfig(**settings)
