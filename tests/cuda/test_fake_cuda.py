"""The fake device raises and counts what a real one would."""

import pytest
import torch
from torch import nn

from benchmarks.fake_cuda import CUDA, fake_cuda


def test_tensors_of_two_devices_do_not_mix():
    with fake_cuda(), pytest.raises(RuntimeError, match="at least two devices"):
        torch.ones(2, device=CUDA) + torch.ones(2)


@pytest.mark.parametrize("read", [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: float(x[0]), lambda x: x.tolist(), lambda x: x.cpu(),
    lambda x: x.to("cpu"), lambda x: int(x.argmax()),
])  # fmt: skip
def test_every_read_is_one_wait(read):
    with fake_cuda() as record:
        read(torch.ones(2, device=CUDA))
    assert record.waits == ["test"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_that_of_pytorch(training, dtype, monkeypatch):
    """Types, shapes and devices; a tensor that was left on the host raises as PyTorch does."""
    aten, found = torch.ops.aten, []
    for _ in range(2):
        with fake_cuda():
            x = torch.empty(2, 4, 8, 8, dtype=dtype, device=CUDA).to(memory_format=torch.channels_last)
            weight, bias, mean, var = torch.empty(4, 4, device=CUDA).unbind()
            outputs = aten.native_batch_norm(x, weight, bias, mean, var, training, 0.1, 1e-5)
            gradients = aten.native_batch_norm_backward(
                x, x, weight, mean, var, *outputs[1:], training, 1e-5, [True, True, False]
            )
            with pytest.raises(RuntimeError, match="at least two devices"):
                aten.native_batch_norm(x, torch.empty(4), bias, mean, var, training, 0.1, 1e-5)
        seen = [None if one is None else (one.dtype, one.device, one.shape, one.stride())
                for one in (*outputs, *gradients)]  # fmt: skip
        found.append(seen)
        monkeypatch.setattr("benchmarks.fake_cuda._DIRECT", {})
    assert found[0] == found[1] and found[0][0][0] == dtype


def test_what_the_host_holds_needs_no_wait():
    with fake_cuda() as record:
        assert torch.ones(2).sum().item() == 1.0 and torch.ones(2).tolist() == [1.0, 1.0]
        torch.ones(2).to(CUDA, non_blocking=True)
    assert record.waits == []


def test_boolean_indexing_raises():
    x = torch.ones(4)
    with fake_cuda(), pytest.raises(Exception, match="nonzero"):
        y = x.to(CUDA)
        y[y > 0]


def test_gradients_are_those_of_autograd():
    """The Python engine computes PyTorch's own gradients, on real tensors."""
    from benchmarks import python_autograd

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1))
    x = torch.randn(2, 2, 6, 6)
    found = python_autograd.grad((network(x) ** 2).mean() + network[0].weight.sum(), list(network.parameters()))
    wanted = torch.autograd.grad((network(x) ** 2).mean() + network[0].weight.sum(), list(network.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_autocast_uses_the_lists_of_cuda():
    layer = nn.Conv2d(3, 4, 3)
    with fake_cuda() as record:
        layer.to(CUDA)
        with torch.autocast("cuda", torch.bfloat16):
            y = layer(torch.empty(1, 3, 8, 8, device=CUDA))
            assert torch.nn.functional.interpolate(y, scale_factor=2, mode="bilinear").dtype == torch.float32
    assert record.types == {torch.bfloat16: 1} and y.device == CUDA
