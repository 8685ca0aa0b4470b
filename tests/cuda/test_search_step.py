"""A step of search.py on the fake CUDA device: devices, types, waits and the number of operators."""

import math

import pytest
import torch

from benchmarks.fake_cuda import CUDA, fake_cuda
from nas.search_step import bilevel_step, read_steps
from net.joined import JoinedMixtures
from net.mixture import MixedOp
from net.settings import PAPER_SPACE
from tests.cuda.steps import batch, cell_search, supernet


@pytest.mark.parametrize(("order", "precision"), [("first", "bf16"), ("second", "fp32")])
def test_a_step(order, precision):
    """It does not wait; the values of all steps are read at once."""
    own = supernet()
    with fake_cuda() as record:
        search = cell_search(own, order, precision)
        kernels = [one for one in search.network.parameters() if one.dim() == 4]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        record.waits.clear()
        record.types.clear()
        assert bilevel_step(search, batch(), batch()) == {} and record.waits == []
        values = read_steps(search)
        assert record.waits == ["readings.py:read"] and len(values) == 5
        assert all(math.isfinite(value) for value in values.values())
        for alpha in search.network.alphas():
            assert alpha.grad is None and alpha.device == CUDA
            assert {value.device for value in search.architect.optimizer.state[alpha].values()} <= {CUDA, _CPU}
    assert set(record.types) == {torch.bfloat16 if precision == "bf16" else torch.float32}


_CPU = torch.device("cpu")  # Adam counts its steps there


@pytest.mark.parametrize("partial", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_edge_keeps_device_and_type(precision, partial):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    mixture = MixedOp(PAPER_SPACE, 16 * partial, partial)
    with fake_cuda() as record:
        mixture.to(CUDA)
        x = torch.empty(2, 16 * partial, 8, 8, device=CUDA, dtype=dtype, requires_grad=True)
        with torch.autocast("cuda", dtype, enabled=precision == "bf16"):
            y = mixture(x)
        y.sum().backward()
        assert (y.device, y.dtype, y.shape) == (CUDA, dtype, x.shape)
        assert mixture.alpha.grad.dtype == torch.float32
    assert record.waits == [] and set(record.types) == {dtype}


@pytest.mark.parametrize("partial", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_joined_edges_keep_device_and_type(precision, partial):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    edges = [MixedOp(PAPER_SPACE, 16 * partial, partial) for _ in range(3)]
    with fake_cuda() as record:
        for edge in edges:
            edge.to(CUDA)
        plan = JoinedMixtures([edges[:2], edges[2:]])
        x = torch.empty(2, 16 * partial, 8, 8, device=CUDA, dtype=dtype, requires_grad=True)
        with torch.autocast("cuda", dtype, enabled=precision == "bf16"):
            outputs = [y for run in plan.prepare(torch.tensor(plan.scale_places(), device=CUDA)) for y in run(x)]
        sum(y.sum() for y in outputs).backward()
        assert {(y.device, y.dtype, y.shape) for y in outputs} == {(CUDA, dtype, x.shape)} and len(outputs) == 3
        for edge in edges:
            assert {one.grad.dtype for one in edge.parameters()} == {torch.float32}
    assert record.waits == [] and set(record.types) == {dtype}
