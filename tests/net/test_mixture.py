"""MixedOp: it is the weighted sum of its candidates, forward and backward; what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from net import operations
from net.mixture import MixedOp, SpaceError, build_candidate, check_space
from net.settings import PAPER_SPACE


def naive(mixture, x):
    """DARTS' equation 2, with partial channels and the auxiliary skip, operation by operation."""
    weights = torch.softmax(mixture.alpha / mixture.temperature, dim=0)
    part, rest = x[:, : mixture.width], x[:, mixture.width :]
    mixed = sum(weight * candidate(part) for weight, candidate in zip(weights, mixture.candidates, strict=True))
    result = torch.cat([rest, mixed], dim=1) + mixture.auxiliary * x
    torch.testing.assert_close(mixture.definition(x), result)
    return result


def make(names=PAPER_SPACE, channels=16, partial=1, seed=0):
    torch.manual_seed(seed)
    mixture = MixedOp(names, channels, partial)
    nn.init.normal_(mixture.alpha)
    return mixture


def assert_equal_to_the_sum(mixture, x):
    ours, expected = mixture(x), naive(mixture, x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    parameters = [parameter for parameter in mixture.parameters() if parameter is not mixture.alpha]
    weight = torch.randn_like(x)
    gradients = zip(
        torch.autograd.grad(ours, [x, mixture.alpha, *parameters], weight, materialize_grads=True),
        torch.autograd.grad(expected, [x, mixture.alpha, *parameters], weight, materialize_grads=True),
        strict=True,
    )
    for one, other in gradients:
        scale = max(other.abs().max().item(), 1.0)
        assert (one - other).abs().max() <= 1e-5 * scale


@settings(max_examples=12)
@given(
    names=st.lists(st.sampled_from(PAPER_SPACE), min_size=1, unique=True).filter(lambda names: names != ["none"]),
    height=st.integers(3, 9), width=st.integers(3, 9), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_subset_is_the_naive_sum(names, height, width, seed):
    mixture = make(names, seed=seed).double()
    assert_equal_to_the_sum(mixture, torch.randn(2, 16, height, width, dtype=torch.float64, requires_grad=True))


def test_the_paper_space_is_the_naive_sum_in_float32():
    assert_equal_to_the_sum(make(), torch.randn(2, 16, 9, 7, requires_grad=True))


def test_so_it_is_channels_last_with_temperature_and_auxiliary_skip():
    mixture = make().to(memory_format=torch.channels_last)
    mixture.temperature, mixture.auxiliary = 0.3, 0.7
    x = torch.randn(2, 16, 9, 7).to(memory_format=torch.channels_last).requires_grad_()
    assert_equal_to_the_sum(mixture, x)


def test_partial_channels_let_the_others_pass():
    mixture = make(channels=64, partial=4)
    x = torch.randn(2, 64, 6, 6, requires_grad=True)
    assert_equal_to_the_sum(mixture, x)
    assert torch.equal(mixture(x)[:, :48], x[:, 16:])


def test_a_newcomer_is_weighed_like_any_other(monkeypatch):
    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))
    operations.operation("blur")(lambda channels, affine: nn.AvgPool2d(3, stride=1, padding=1))
    operations.operation("conv_1x1")(
        lambda channels, affine: nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)
        )
    )
    assert_equal_to_the_sum(make(["blur", "conv_1x1", "conv_3x3"]), torch.randn(2, 16, 5, 5, requires_grad=True))


def test_a_convolution_that_changes_the_size_is_not_joined(monkeypatch):
    """What is not exactly a unit must go its own way: here a grouped and a biased convolution."""
    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))
    for name, options in (("grouped", {"groups": 4, "bias": False}), ("biased", {"bias": True})):

        def factory(channels, affine, options=options):
            conv = nn.Conv2d(channels, channels, 3, padding=1, **options)
            return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=affine))

        operations.operation(name)(factory)
    assert_equal_to_the_sum(make(["grouped", "biased", "conv_3x3"]), torch.randn(2, 16, 5, 5, requires_grad=True))


def test_none_costs_nothing_but_its_weight():
    class Refuses(operations.Zero):
        def forward(self, x):
            raise AssertionError("computed")

    mixture = make(["none", "skip_connect"])
    mixture.candidates[0] = Refuses()
    x = torch.randn(2, 16, 4, 4)
    expected = mixture.weights()[1] * F.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(mixture(x), expected)


def test_one_relu_and_no_pointwise_convolution_serve_an_edge():
    """Seven chains begin with a ReLU; they share it. Their 1x1s are inside the 3x3s, only attention has its own."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution.default:
                self.calls.append(tuple(args[1].shape[2:]))
            elif func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default):
                self.calls.append("relu")
            return func(*args, **(kwargs or {}))

    mixture = make()
    with Count() as count:
        mixture(torch.randn(2, 16, 16, 16))
    assert count.calls.count((1, 1)) == 2, "one in each attention"
    assert count.calls.count((3, 3)) == 10
    assert count.calls.count("relu") == 1 + 3 + 3, "the shared one, three inside double units, three in attention"


def test_every_candidate_is_normalised_without_scale_and_shift():
    for name in PAPER_SPACE:
        module = build_candidate(name, 16)
        norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
        assert norms or name == "none", name
        assert all(norm.weight is None and norm.running_mean is None for norm in norms), name
        module.eval()
        if name not in ("none", "SpatialAttention", "ChannelAttention"):  # these two end in a ReLU
            out = module(3 + 5 * torch.randn(4, 16, 8, 8))
            torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
            torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(16), atol=0.01, rtol=0)


def test_alphas_are_in_the_state_dict():
    assert "alpha" in make().state_dict()


@pytest.mark.parametrize(
    ("names", "channels", "partial", "message"),
    [
        ([], 16, 1, "leaves nothing to choose from"),
        (["none"], 16, 1, r"\[none\] leaves nothing to choose from"),
        (["conv_3x3", "conv_3x3"], 16, 1, "'conv_3x3' is listed twice"),
        (["conv_3x3"], 16, 3, "^partial: 3 does not divide channels 16"),
        (["conv_3x3"], 16, 0, "^partial: 0"),
    ],
)
def test_a_space_that_cannot_work_is_refused(names, channels, partial, message):
    with pytest.raises(SpaceError, match=message):
        MixedOp(names, channels, partial)


def test_an_unknown_operation_is_refused():
    with pytest.raises(SpaceError, match="^operations: 'conv_5x5' is not registered. Registered: none"):
        MixedOp(["conv_5x5"], 16)


def test_a_width_that_an_operation_does_not_support_is_refused_before_anything_is_built():
    with pytest.raises(operations.OperationError, match="squeezes to a sixteenth, so 8 channels leave none"):
        check_space(["skip_connect", "ChannelAttention"], 32, 4)
    check_space(["skip_connect", "ChannelAttention"], 32, 2)


@pytest.mark.parametrize("kind", ["scaled", "subclass"])
def test_a_newcomer_that_keeps_no_convention_is_still_the_naive_sum(kind, monkeypatch):
    """One that learns a scale in spite of `affine`, one whose convolution is not PyTorch's own."""

    class Doubled(nn.Conv2d):
        def forward(self, input):
            return 2 * super().forward(input) + 1

    def factory(channels, affine):
        conv = (nn.Conv2d if kind == "scaled" else Doubled)(channels, channels, 3, padding=1, bias=False)
        norm = nn.BatchNorm2d(channels, affine=kind == "scaled")
        if kind == "scaled":
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        return nn.Sequential(nn.ReLU(), conv, norm)

    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))
    operations.operation("newcomer")(factory)
    mixture = make(("newcomer", "conv_3x3", "skip_connect")).double()
    assert_equal_to_the_sum(mixture, torch.randn(2, 16, 6, 5, dtype=torch.float64, requires_grad=True))


def test_partial_channels_temperature_and_auxiliary_skip_together():
    mixture = make(channels=64, partial=4)
    mixture.temperature, mixture.auxiliary = 0.4, 0.3
    assert_equal_to_the_sum(mixture, torch.randn(2, 64, 6, 6, requires_grad=True))
