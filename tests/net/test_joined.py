"""Joined edges equal the edges one by one: outputs, gradients of weights, alphas and image."""

import pytest
import torch
from torch import nn

from net import operations
from net.joined import JoinedMixtures, stages
from net.mixture import MixedOp
from net.settings import PAPER_SPACE, SpaceConfig
from net.supernet import build_supernet


def edges(count, names=PAPER_SPACE, channels=16, partial=1):
    torch.manual_seed(0)
    made = [MixedOp(names, channels, partial).double() for _ in range(count)]
    for edge in made:
        nn.init.normal_(edge.alpha)
    return made


def assert_equal_one_by_one(groups, width, side=(7, 6), **relaxation):
    """All outputs, and the gradients by inputs and parameters of a weighted sum of them."""
    members = [edge for group in groups for edge in group]
    for edge in members:
        for name, value in relaxation.items():
            setattr(edge, name, value)
    plan = JoinedMixtures(groups)
    inputs = [torch.randn(2, width, *side, dtype=torch.float64, requires_grad=True) for _ in groups]
    runs = plan.prepare(torch.tensor(plan.scale_places()))
    ours = [one for run, x in zip(runs, inputs, strict=True) for one in run(x)]
    wanted = [edge.definition(x) for group, x in zip(groups, inputs, strict=True) for edge in group]
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    weights = [torch.randn_like(one) for one in wanted]
    by = [*inputs, *(parameter for edge in members for parameter in edge.parameters())]
    for one, other in zip(
        torch.autograd.grad(ours, by, weights, materialize_grads=True),
        torch.autograd.grad(wanted, by, weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_groups_of_different_size():
    one, two, three, four, five, six = edges(6)
    assert_equal_one_by_one([[one, two, three], [four], [five, six]], 16)


def test_with_temperature_and_auxiliary_skip():
    one, two, three = edges(3)
    assert_equal_one_by_one([[one, two], [three]], 16, temperature=0.4, auxiliary=0.3)


def test_with_partial_channels():
    one, two, three = edges(3, channels=64, partial=4)
    assert_equal_one_by_one([[one, two], [three]], 64)


@pytest.mark.parametrize("names", [
    ["conv_3x3"], ["skip_connect"], ["none", "ChannelAttention"], ["SpatialAttention", "dil_conv_3x3_rp2"],
    ["sep_conv_3x3_rp2", "none", "conv_3x3_rp2"],
])  # fmt: skip
def test_any_subset(names):
    one, two, three = edges(3, names)
    assert_equal_one_by_one([[one], [two, three]], 16)


def test_with_operations_of_the_user(monkeypatch):
    """One that is no chain, one of another kernel, one whose second convolution has another geometry, an alias."""
    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))

    def chain(*kinds):
        def factory(channels, affine):
            layers = []
            for side, dilation in kinds:
                pad = dilation * (side // 2)
                conv = nn.Conv2d(channels, channels, side, padding=pad, dilation=dilation, bias=False)
                layers += [nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=affine)]
            return nn.Sequential(*layers)

        return factory

    operations.operation("blur")(lambda channels, affine: nn.AvgPool2d(3, stride=1, padding=1))
    operations.operation("conv_1x1")(chain((1, 1)))
    operations.operation("mixed")(chain((3, 1), (3, 2)))
    operations.operation("three")(chain((3, 1), (3, 2), (5, 1)))
    operations.operation("again")(operations.ChannelAttention)
    names = ["blur", "three", "conv_1x1", "ChannelAttention", "mixed", "conv_3x3_rp2", "again", "conv_3x3"]
    one, two, three = edges(3, names)
    assert_equal_one_by_one([[one, two], [three]], 16)


def test_chains_of_one_geometry_are_one_convolution():
    """Three geometries read the input; of the repeated candidates two share theirs."""
    (edge,) = edges(1)
    found = stages(edge.chains)
    assert [(len(stage.chains), stage.ends, len(stage.children)) for stage in found] == [
        (4, 2, 1),
        (2, 1, 1),
        (1, 1, 0),
    ]


@pytest.mark.parametrize("topology", ["released", "figure"])
def test_a_joined_supernet_equals_one_edge_by_edge(topology):
    torch.manual_seed(0)
    network = build_supernet(SpaceConfig("mobilenetv3_small_050", 16, topology=topology)).double()
    network.set_relaxation(0.7, 0.2)
    image = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    found = []
    for joined in (False, True):
        network.joined = joined
        logits = network(image)
        loss = sum((one.sigmoid() - 0.3).square().mean() for one in logits)
        found.append([*logits, *torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_joined_in_bfloat16_as_near_to_float32_as_one_by_one():
    torch.manual_seed(0)
    network = build_supernet(SpaceConfig("mobilenetv3_small_050", 16))
    image, found = torch.randn(2, 3, 64, 64), {}
    for joined in (False, True):
        network.joined = joined
        with torch.no_grad():
            exact = network(image).p1
            with torch.autocast("cpu", torch.bfloat16):
                found[joined] = (network(image).p1 - exact).norm() / exact.norm()
    assert found[True] <= 1.5 * found[False]


def test_a_single_path_is_not_joined():
    from nas.strategies.single_path import single_path

    torch.manual_seed(0)
    network = build_supernet(SpaceConfig("mobilenetv3_small_050", 16))
    image = torch.randn(2, 3, 64, 64)
    with single_path(network, ["conv_3x3"] * 31):
        expected = network(image)
        network.joined = True
        assert all(torch.equal(one, other) for one, other in zip(network(image), expected, strict=True))
