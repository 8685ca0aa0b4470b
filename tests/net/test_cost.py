"""Cost terms: counted multiply-accumulates against the table of the operations, expectation, sides."""

import pytest
import torch

from net.cost import ExpectedCost, edge_sides, multiply_accumulates
from net.derive import check_genotype, derive, random_genotype
from net.genotype import GenotypeError, load
from net.settings import PAPER_SPACE, CostConfig, SpaceConfig
from net.supernet import build_supernet
from settings.limits import SettingError

# A pixel at 128 channels, counted by hand from the layers.
PER_PIXEL = {
    "none": 0, "skip_connect": 0, "sep_conv_3x3": 163_840, "sep_conv_3x3_rp2": 327_680, "conv_3x3": 147_456,
    "dil_conv_3x3": 163_840, "dil_conv_3x3_rp2": 327_680, "dil_conv_3x3_dil4": 163_840, "conv_3x3_rp2": 294_912,
}  # fmt: skip


@pytest.mark.parametrize("name", PER_PIXEL)
def test_multiply_accumulates(name):
    assert multiply_accumulates(name, 128, (4, 6)) == PER_PIXEL[name] * 24


def test_attention_counts_its_hidden_layer_once():
    assert multiply_accumulates("ChannelAttention", 128, (4, 6)) == 24 * 128 * 128 + 2 * 128 * 8
    assert multiply_accumulates("SpatialAttention", 128, (4, 6)) == 24 * (128 * 128 + 2 * 49)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_supernet(SpaceConfig("mobilenetv3_small_050", 16))


def test_sides_are_those_of_the_levels(network):
    sides = edge_sides(network, 64)
    assert len(sides) == 31
    assert [side for edge, side in sides.items() if edge.cell == 1][:4] == [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert {side for edge, side in sides.items() if edge.kind == "inner"} == {(4, 4), (8, 8), (16, 16)}


def test_expected_cost_is_one_for_equal_weights_and_that_of_a_genotype_when_decided(network):
    from net.derive import discretise

    cost = ExpectedCost(network, edge_sides(network, 64), lambda name, side: multiply_accumulates(name, 16, side))
    with torch.no_grad():
        for alpha in network.alphas():
            alpha.zero_()
    assert cost().item() == pytest.approx(1)
    genotype = random_genotype(SpaceConfig(channels=16), 0)
    discretise(network, genotype)
    assert cost().item() == pytest.approx(cost.of(genotype, PAPER_SPACE) / cost.uniform.item(), rel=1e-5)


@pytest.mark.parametrize("outer_none", [False, True])
def test_descent_on_the_cost_alone_derives_the_cheapest_network(outer_none):
    """`none` is the cheapest operation, but no inner edge may derive it: its weight must not lower the cost."""
    torch.manual_seed(0)
    names = ["none", "conv_3x3", "sep_conv_3x3_rp2", "SpatialAttention"]
    space = SpaceConfig("mobilenetv3_small_050", 16, names, outer_none=outer_none)
    network = build_supernet(space)
    price = {"none": 0.0, "conv_3x3": 3.0, "sep_conv_3x3_rp2": 5.0, "SpatialAttention": 2.0}
    cost = ExpectedCost(network, edge_sides(network, 64), lambda name, side: price[name])
    optimizer = torch.optim.Adam(network.alphas(), 0.3)
    for _ in range(60):
        optimizer.zero_grad()
        cost().backward()
        optimizer.step()
    derived = cost.of(derive(network, space), names)
    assert derived == (19 * 2.0 if outer_none else 31 * 2.0)
    assert cost.total().item() == pytest.approx(derived, rel=0.02), "what is expected is what is derived"


def test_a_latency_without_a_table_is_refused():
    with pytest.raises(
        SettingError, match=r"^table: kind latency needs one. Measure it: python benchmarks/operations.py"
    ):
        CostConfig(kind="latency")


def test_a_genotype_from_another_space_is_refused():
    space = SpaceConfig(operations=["skip_connect", "conv_3x3"])
    with pytest.raises(GenotypeError, match="mine: comes from another space: cell 1 outer E5 is 'dil_conv_3x3_dil4'"):
        check_genotype(load("resnet50"), space, "mine")
    with pytest.raises(GenotypeError, match="its topology is released, the space's is figure"):
        check_genotype(load("resnet50"), SpaceConfig(topology="figure"), "mine")
    check_genotype(load("resnet50"), SpaceConfig(), "mine")
