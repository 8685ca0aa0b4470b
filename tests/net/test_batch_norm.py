"""BatchNorm by the batch: PyTorch's numbers, over the images of one process and of all."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from net.batch_norm import BatchNorm, batch_norm, use_batch_statistics
from net.libraries import BatchNormAct2d

EPS = 1e-3


@pytest.fixture
def group(tmp_path):
    """A group of one process, whose moments are those of its own images."""
    distributed.init_process_group("gloo", f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def images(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return 3 + 2 * torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator).to(dtype)


@pytest.mark.parametrize("shift", [None, torch.tensor([0.0, 1.0, 2.0, 3.0])])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_shared_moments_of_one_process_are_its_own(group, dtype, shift):
    """Output and gradients, for channels first and last in memory."""
    found = []
    for shared in (False, True):
        x = images(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        scale = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.promote_types(dtype, torch.float32)).requires_grad_()
        y = batch_norm(x, scale, None if shift is None else shift.to(scale.dtype), EPS, shared)
        assert y.dtype == dtype and y.shape == x.shape
        (y.double() * torch.arange(15).view(3, 5) ** 2).sum().backward()
        found.append((y.double(), x.grad.double(), scale.grad.double()))
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, rtol=tolerance, atol=tolerance * own.abs().max().item())


def test_gradients_of_shared_moments_are_those_of_differences(group):
    x, scale = images().requires_grad_(), torch.linspace(0.5, 2, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: batch_norm(*inputs, None, EPS, True), (x, scale))


def test_without_processes_nothing_is_shared():
    x = images()
    wanted = F.batch_norm(x, None, None, training=True, eps=EPS)
    assert torch.equal(batch_norm(x, None, None, EPS, True), wanted)


def test_every_batchnorm_uses_the_batch_and_keeps_its_parameters():
    class Own(nn.BatchNorm2d):
        """Of a user: it stays what it is."""

    network = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1), BatchNormAct2d(4)), Own(4)).eval()
    for norm in (network[0], network[1][1], network[2]):
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        norm.running_mean.fill_(9.0)
    before, x = copy.deepcopy(network), images(torch.float32)
    assert use_batch_statistics(network) is network
    assert dict(network.named_parameters()).keys() == dict(before.named_parameters()).keys()
    assert not list(network.buffers()) and isinstance(network[1][1], BatchNorm) and type(network[2]) is Own
    with torch.no_grad():
        torch.testing.assert_close(network(x), before.train()(x), rtol=0, atol=0)
    assert isinstance(use_batch_statistics(nn.BatchNorm2d(4)), BatchNorm)
