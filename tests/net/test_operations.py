"""The eleven operations: sizes from the released code, shapes, gradients, the registry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from net import operations

# Parameters at 128 channels, counted from the released code.
PARAMETERS = {
    "none": 0,
    "skip_connect": 0,
    "sep_conv_3x3": 164_096,
    "sep_conv_3x3_rp2": 328_192,
    "dil_conv_3x3": 164_096,
    "dil_conv_3x3_rp2": 328_192,
    "dil_conv_3x3_dil4": 164_096,
    "conv_3x3": 147_712,
    "conv_3x3_rp2": 295_424,
    "SpatialAttention": 16_738,
    "ChannelAttention": 18_824,
}


def test_the_eleven_are_there():
    assert set(operations.names()) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert sum(p.numel() for p in operations.build(name, 128).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), affine=st.booleans())
def test_shape_is_kept(name, height, width, affine):
    module = operations.build(name, 16, affine).eval()
    x = torch.randn(2, 16, height, width)
    assert module(x).shape == x.shape


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "none"])
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    module = operations.build(name, 64)  # four units in the bottleneck: for this seed some let the gradient through
    x = torch.randn(2, 64, 6, 6, requires_grad=True)
    (module(x) * torch.randn(2, 64, 6, 6)).sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", PARAMETERS)
def test_affine_off_leaves_no_scale_to_learn(name):
    module = operations.build(name, 16, affine=False)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight is None for norm in norms)


def test_none_passes_nothing():
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(operations.build("none", 16)(x), torch.zeros_like(x))


def test_spatial_attention_is_its_formula():
    module = operations.SpatialAttention(16).eval()
    x = torch.randn(1, 16, 5, 7)
    pooled = torch.stack([x[0].mean(0), x[0].max(0).values])[None]
    weighted = x * torch.sigmoid(nn.functional.conv2d(pooled, module.attend.weight, padding=3))
    expected = torch.relu(nn.functional.conv2d(weighted, module.mix.weight) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(module(x), expected)


def test_a_newcomer_registers_and_builds(monkeypatch):
    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))
    operations.operation("conv_1x1")(lambda channels, affine: nn.Conv2d(channels, channels, 1))
    assert operations.build("conv_1x1", 8)(torch.zeros(1, 8, 3, 3)).shape == (1, 8, 3, 3)


def test_a_taken_name_is_refused():
    with pytest.raises(operations.OperationError, match="'none' is registered already"):
        operations.operation("none")(lambda channels, affine: nn.Identity())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(operations.OperationError, match="'conv_5x5' is not registered. Registered: none, skip_connect"):
        operations.build("conv_5x5", 16)


def test_too_narrow_channel_attention_is_refused():
    with pytest.raises(operations.OperationError, match="8 channels"):
        operations.build("ChannelAttention", 8)
