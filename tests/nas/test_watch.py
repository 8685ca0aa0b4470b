"""Watching a search: entropy, shares, agreement, signs of a collapse, the gap."""

import math
from dataclasses import replace

import pytest
import torch

from nas.settings import WatchConfig
from nas.watch import EpochProgress, agreement, chosen_record, collapse, discretisation_gap, mean_entropy, measure_epoch
from net.cost import ExpectedCost, edge_sides, multiply_accumulates
from net.derive import derive
from net.genotype import CellGenotype, Genotype, load, operations_of
from net.settings import PAPER_SPACE, SpaceConfig
from net.supernet import build_supernet

SPACE = SpaceConfig("mobilenetv3_small_050", 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_supernet(SPACE)


@pytest.fixture(scope="module")
def macs(network):
    return ExpectedCost(network, edge_sides(network, 64), lambda name, side: multiply_accumulates(name, 16, side))


def record(network, macs, before=None, epoch=1):
    loop = EpochProgress(epoch, alphas_rest=False, temperature=1.0, weight_loss=1.0, alpha_loss=2.0)
    return measure_epoch(network, SPACE, macs, loop, (1.0, 1.5), before)


def set_all(network, weights):
    """Gives every edge these alphas by name."""
    with torch.no_grad():
        for alpha in network.alphas():
            alpha.copy_(torch.tensor([weights.get(name, 0.0) for name in PAPER_SPACE]))


def test_entropy_is_its_formula():
    assert mean_entropy(torch.full((3, 11), 1 / 11)) == pytest.approx(math.log(11))
    assert mean_entropy(torch.eye(4)) == 0
    assert mean_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(math.log(2) / 2)


def test_shares_and_cost_of_known_alphas(network, macs):
    set_all(network, {"SpatialAttention": 3.0, "none": 9.0})
    seen = record(network, macs)
    assert seen.attention == 1 and seen.skip == 0
    assert seen.derived_gmac == pytest.approx(macs.of(derive(network, SPACE), PAPER_SPACE) / 1e9)
    assert 0 < seen.expected_gmac < macs.rows.max(1).values.sum().item() / 1e9
    assert math.isnan(seen.agreement) and "search/agreement" not in seen.scalars()
    set_all(network, {"SpatialAttention": 3.0})
    assert record(network, macs, seen, 2).agreement == 1
    set_all(network, {"conv_3x3": 3.0})
    assert record(network, macs, seen, 2).agreement == 0


def test_temperature_lowers_the_entropy_of_the_weights_not_of_the_alphas(network, macs):
    set_all(network, {"conv_3x3": 1.0})
    network.set_relaxation(0.25, 0.0)
    seen = record(network, macs)
    network.set_relaxation(1.0, 0.0)
    assert seen.entropy < 0.5 * seen.alpha_entropy


def test_agreement_counts_edges():
    one = load("resnet50")
    first = one.cells[0]
    changed = CellGenotype(("skip_connect", *first.outer[1:]), first.inner)
    other = Genotype((changed, *one.cells[1:]))
    assert agreement(one, other) == pytest.approx(30 / 31)


def test_signs_of_a_collapse(network, macs):
    set_all(network, {"skip_connect": 9.0})
    seen = record(network, macs)
    config = WatchConfig()
    signs = collapse(seen, config, epochs=10)
    assert len(signs) == 2
    assert "100% of the derived edges are skip_connect" in signs[0] and "architect.auxiliary" in signs[0]
    assert "edges are decided before their operations are trained" in signs[1]
    assert len(collapse(replace(seen, epoch=9), config, epochs=10)) == 1, "late in a search low entropy is its end"
    assert collapse(replace(seen, alphas_rest=True), config, epochs=10) == []
    set_all(network, {"conv_3x3": 0.1})
    assert collapse(record(network, macs), config, epochs=10) == []


def test_a_search_that_collapsed_gives_what_it_had_before(network, macs):
    set_all(network, {"conv_3x3": 1.0})
    first, second = (record(network, macs, epoch=epoch) for epoch in (1, 2))
    assert chosen_record([first, second], stopped=False) is second
    assert chosen_record([first, second], stopped=True) is first
    assert chosen_record([replace(first, alphas_rest=True), second], stopped=True) is second, "chance is no better"
    assert chosen_record([first], stopped=True) is first


def test_the_gap_leaves_the_alphas_as_they_were(network):
    set_all(network, {"dil_conv_3x3": 0.5})
    before = [alpha.clone() for alpha in network.alphas()]
    images = [torch.randn(2, 3, 64, 64)]

    def loss(image):
        return sum(one.square().mean() for one in network(image))

    mixed, derived = discretisation_gap(network, SPACE, images, loss)
    assert mixed != derived and math.isfinite(mixed + derived)
    assert all(torch.equal(one, other) for one, other in zip(network.alphas(), before, strict=True))
    with torch.no_grad():
        assert mixed == pytest.approx(loss(images[0]).item())
    assert all(math.isnan(value) for value in discretisation_gap(network, SPACE, [], loss))
    assert len(operations_of(derive(network, SPACE))) == 31


def test_the_gap_is_measured_without_the_auxiliary_skip(network):
    """DARTS- adds it to every edge of the supernet, no derived network has it."""
    set_all(network, {"dil_conv_3x3": 0.5})
    images = [torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))]

    def loss(image):
        return sum(one.square().mean() for one in network(image))

    expected = discretisation_gap(network, SPACE, images, loss)
    network.set_relaxation(1.0, 1.0)
    found = discretisation_gap(network, SPACE, images, loss)
    assert {mixture.auxiliary for _, mixture in network.mixtures()} == {1.0}, "it is on again afterwards"
    with torch.no_grad():
        assert loss(images[0]).item() != pytest.approx(found[0])
    network.set_relaxation(1.0, 0.0)
    assert found == pytest.approx(expected)
