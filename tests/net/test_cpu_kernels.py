"""Fast layers give the outputs and gradients of the layers that they replace."""

import copy

import pytest
import timm
import torch
from torch import nn

from net.cpu_kernels import FastDepthwise, FastReLU6, accelerate


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 9), (8, 8), (7, 12), (13, 6), (1, 5)])
def test_depthwise_is_the_same_convolution(side, stride, size):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, side, stride, side // 2, groups=6, bias=False).double()
    assert FastDepthwise.fits(plain)
    fast = FastDepthwise(copy.deepcopy(plain))
    x = torch.randn(2, 6, *size, dtype=torch.double)
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn_like(plain(x))
    (plain(one) * weights).sum().backward()
    (fast(two) * weights).sum().backward()
    torch.testing.assert_close(fast(x), plain(x))
    torch.testing.assert_close(two.grad, one.grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


def test_relu6_has_the_same_gradient():
    x = torch.tensor([-1.0, 0.0, 1e-3, 3.0, 5.999, 6.0, 9.0])
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    nn.functional.relu6(one).sum().backward()
    out = FastReLU6()(two)
    out.sum().backward()
    assert torch.equal(two.grad, one.grad) and torch.equal(out, nn.functional.relu6(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.Conv2d(6, 6, 7, padding=3, groups=6, bias=False),
        nn.Conv2d(6, 6, 3, padding=1, dilation=2, groups=6, bias=False),
        nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False, padding_mode="reflect"),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False, padding_mode="circular"),
    ],
)
def test_other_convolutions_stay(conv):
    assert not FastDepthwise.fits(conv)


def test_a_subclass_stays():
    """It may compute something else."""

    class Doubled(nn.Conv2d):
        def forward(self, input):
            return 2 * super().forward(input)

    network = accelerate(nn.Sequential(Doubled(6, 6, 3, padding=1, groups=6, bias=False)))
    assert type(network[0]) is Doubled


def test_a_whole_encoder_is_the_same():
    torch.manual_seed(0)
    plain = timm.create_model("efficientnet_lite0", features_only=True).train()
    fast = accelerate(copy.deepcopy(plain))
    assert any(isinstance(m, FastDepthwise) for m in fast.modules())
    assert any(isinstance(m, FastReLU6) for m in fast.modules())
    assert plain.state_dict().keys() == fast.state_dict().keys()
    x = torch.randn(2, 3, 64, 96)
    for network in (plain, fast):
        sum(level.square().mean() for level in network(x)).backward()
    for (key, one), two in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-5, msg=key)


def test_autocast_computes_in_bfloat16():
    fast = FastDepthwise(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
    with torch.autocast("cpu", torch.bfloat16):
        out = fast(torch.randn(1, 4, 8, 8, requires_grad=True))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and fast.weight.grad.dtype == torch.float32
