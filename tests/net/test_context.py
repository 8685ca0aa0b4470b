"""Blocks of global context: values by hand, the identity at the start, any size, gradients, and nothing when off."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from net.auto_msfnet import build_network
from net.context import ContextAttention, ContextGate, build_context
from net.losses import saliency_loss
from net.settings import LossConfig, NetworkConfig
from settings.limits import SettingError
from tests.conftest import ROOT

KINDS = ("gate", "attention")


def config(kind):
    return NetworkConfig("test_efficientnet", str(ROOT / "tests" / "every_operation.json"), 16, kind)


def learnt(block: nn.Module) -> nn.Module:
    """The block with weights as after training: its last projection is not zero."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.3, generator=draw)
    return block


def test_the_gate_by_hand():
    gate = ContextGate(2)
    with torch.no_grad():
        gate.squeeze.weight.copy_(torch.tensor([[1.0, 2.0]]))
        gate.squeeze.bias.fill_(-1.0)
        gate.excite.weight.copy_(torch.tensor([[1.0], [-0.5], [0.25], [0.0]]))
        gate.excite.bias.copy_(torch.tensor([0.0, 0.0, 0.5, -3.0]))
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # means 2 and 1, so the hidden unit is 2 + 2 - 1 = 3
    up, down = 2 * torch.tensor(3.0).sigmoid().item(), 2 * torch.tensor(-1.5).sigmoid().item()
    expected = torch.tensor([[[[up + 1.25, 3 * up + 1.25]], [[-3.0, 2 * down - 3]]]])
    torch.testing.assert_close(gate(x), expected)


@pytest.mark.parametrize(("channels", "heads"), [(16, 4), (18, 2), (17, 1)])
def test_attention_is_that_of_pytorch(channels, heads):
    block = learnt(ContextAttention(channels))
    x = torch.randn(2, channels, 3, 5)
    tokens = block.norm((x + block.position(x)).flatten(2).transpose(1, 2)).transpose(0, 1)  # (N, B, C)
    theirs, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, channels, heads, block.attend.weight, block.attend.bias, None, None, False, 0.0,
        block.project.weight, block.project.bias,
    )  # fmt: skip
    torch.testing.assert_close(block(x), x + theirs.permute(1, 2, 0).reshape(x.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 16, 7, 5), (1, 17, 1, 1), (3, 1, 2, 9)])
def test_a_block_starts_as_the_identity_to_the_bit_and_keeps_any_size(kind, shape):
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    block = build_context(kind, shape[1])
    assert torch.equal(block(x), x)
    changed = learnt(block)(x)
    assert changed.shape == x.shape and not torch.allclose(changed, x)
    assert changed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_sees_the_others(kind):
    block, x = learnt(build_context(kind, 16)), torch.randn(1, 16, 6, 6)
    other = x.clone()
    other[:, :, 5, 5] += 1
    assert not torch.equal(block(x)[:, :, 0, 0], block(other)[:, :, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_at_an_odd_size(kind):
    torch.manual_seed(0)
    network = build_network(config(kind)).train()
    image, mask = torch.randn(2, 3, 65, 97), (torch.rand(2, 1, 65, 97) > 0.6).float()

    def without_gradient():
        network.zero_grad()
        saliency_loss(network(image), mask, LossConfig()).total.backward()
        assert all(p.grad is not None for p in network.context.parameters())
        return [name for name, p in network.context.named_parameters() if not p.grad.any()]

    last = {"gate": "excite", "attention": "project"}[kind]
    assert f"{last}.weight" not in without_gradient(), "what is zero at the start gets a gradient in the first step"
    learnt(network.context)
    assert without_gradient() == []


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_and_autocast_stay_near(kind):
    block, x = learnt(build_context(kind, 16)), torch.rand(2, 16, 4, 5)
    with torch.no_grad():
        exact = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = block(x.bfloat16())
        low = block.bfloat16()(x.bfloat16())
    for result in (cast.float(), low.float()):
        assert (result - exact).abs().max() < 0.05 * exact.abs().max()


def test_operations_are_counted():
    """At C channels and N positions: 9 C N of the position, 4 C^2 N of the projections, 2 N^2 C of the attention."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        build_context("attention", 16)(torch.zeros(1, 16, 3, 4))
    assert counter.get_total_flops() // 2 == 9 * 16 * 12 + 4 * 16**2 * 12 + 2 * 12**2 * 16
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        build_context("gate", 16)(torch.zeros(1, 16, 3, 4))
    assert counter.get_total_flops() // 2 == 16 * 4 + 4 * 32


def test_without_a_block_nothing_is_stored_drawn_or_computed():
    x, before = torch.randn(1, 16, 2, 2), torch.get_rng_state()
    block = build_context("none", 16)
    assert torch.equal(torch.get_rng_state(), before)
    assert block.state_dict() == {} and block(x) is x
    assert not [key for key in build_network(config("none")).state_dict() if key.startswith("context")]


def test_a_block_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match="context: 'pyramid', expected one of none, gate, attention"):
        config("pyramid")
