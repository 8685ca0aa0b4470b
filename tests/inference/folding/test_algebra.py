"""Folded kernels give what the layers they replace give."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from inference.folding.algebra import Kernel, apart, norm_terms, plus_identity, then_affine, then_pointwise, then_shrink
from inference.folding.graph_builder import resize_matrix


def seeded_norm(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, affine=affine).eval()
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.1, 3)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def same_map(folded: Kernel, layers: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(folded.module()(x), layers(x), atol=1e-5, rtol=1e-5)


@given(st.integers(0, 2**31), st.booleans(), st.booleans(), st.sampled_from([1, 2, 4]))
def test_a_convolution_takes_in_the_pointwise_and_the_norm_behind_it(seed, bias, affine, dilation):
    torch.manual_seed(seed)
    conv = nn.Conv2d(5, 6, 3, padding=dilation, dilation=dilation, bias=bias)
    mix, norm = nn.Conv2d(6, 4, 1, bias=bias), seeded_norm(4, affine)
    folded = then_affine(then_pointwise(Kernel.of(conv), Kernel.of(mix)), *norm_terms(norm))
    same_map(folded, nn.Sequential(conv, mix, norm), torch.randn(2, 5, 9, 11))


def test_a_grouped_strided_convolution_takes_in_its_norm():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6, bias=False), seeded_norm(6)
    same_map(then_affine(Kernel.of(conv), *norm_terms(norm)), nn.Sequential(conv, norm), torch.randn(1, 6, 13, 8))


@pytest.mark.parametrize(("dilation", "factor"), [(1, 2), (1, 4), (2, 4), (1, 8), (3, 4)])
def test_a_convolution_takes_in_the_shrinking_behind_it(dilation, factor):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=dilation, dilation=dilation)
    x = torch.randn(2, 3, 3 * factor, 5 * factor)
    folded = then_shrink(Kernel.of(conv), factor)
    if folded is None:
        assert dilation == 1 and factor == 8  # its pixels lie too far from the border to need padding
        return
    shrunk = F.interpolate(conv(x), size=(3, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(folded.module()(x), shrunk, atol=1e-5, rtol=1e-5)
    assert folded.weight[0, 0].numel() < 9 * factor**2


def test_shrinking_stays_apart_where_one_kernel_would_cost_more():
    conv = nn.Conv2d(3, 4, 3, padding=4, dilation=4)
    assert then_shrink(Kernel.of(conv), 2) is None


def test_adding_the_input_is_a_tap_at_the_centre():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 4, 3, padding=2, dilation=2), torch.randn(1, 4, 7, 6)
    torch.testing.assert_close(plus_identity(Kernel.of(conv)).module()(x), conv(x) + x)


@pytest.mark.parametrize(("side", "dilation"), [(3, 1), (3, 2), (5, 1)])
def test_a_convolution_to_one_channel_is_products_and_then_a_sum_of_pixels(side, dilation):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 1, side, padding=dilation * (side // 2), dilation=dilation)
    products, gather = apart(Kernel.of(conv))
    assert products.weight.shape == (side**2, 6, 1, 1) and gather.weight.sum() == side**2
    x = torch.randn(2, 6, 7, 9)
    torch.testing.assert_close(gather.module()(products.module()(x)), conv(x), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 70), st.integers(1, 70))
def test_a_resize_of_a_line_is_a_matrix(old, new):
    line = torch.linspace(-1, 1, old).square()[None, None, None]
    resized = F.interpolate(line, size=(1, new), mode="bilinear", align_corners=False)
    torch.testing.assert_close(line @ resize_matrix(old, new).T, resized, atol=1e-6, rtol=1e-5)
