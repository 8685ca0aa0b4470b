"""The engine and the predictor on the fake CUDA device."""

import copy

import numpy as np
import pytest
import torch

from benchmarks.fake_cuda import CUDA, ROOT, fake_cuda
from inference.engines.torch_engine import TorchEngine
from inference.predictor import Predictor
from inference.weights import LoadedNetwork
from tests.cuda.steps import SIDE, SMALL, batch, network

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def loaded():
    """A network in eval mode, as it is read from a file."""
    return LoadedNetwork(network().eval(), SMALL, SIDE, ROOT / "none.safetensors", "0" * 64)


@pytest.fixture(autouse=True)
def _precision_flags():
    """`choose_precision` sets flags of the whole process."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def engine(loaded, precision, monkeypatch):
    """The engine as the program builds it; folding runs before on real numbers, as it does on the CPU."""
    from inference.engines import torch_engine
    from inference.folding.network import fold

    # Narrowed outside as well: a module is copied there, which fake tensors do not support.
    narrow = torch_engine.in_precision(copy.deepcopy(fold(loaded.network, SIDE)), DTYPES[precision])
    monkeypatch.setattr(torch_engine, "prepare", lambda *_: narrow)
    monkeypatch.setattr(torch_engine, "in_precision", lambda *_: narrow)
    return lambda: TorchEngine(loaded, SIDE, precision, CUDA)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_engine_waits_once_for_its_maps(loaded, precision, monkeypatch):
    build = engine(loaded, precision, monkeypatch)
    with fake_cuda() as record:
        logits = build()(batch().image)
        assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.float32, (2, 1, SIDE, SIDE))
    assert record.waits == ["torch_engine.py:_run"]
    # All convolutions but the two of the head, which needs the digits.
    narrow = record.types[DTYPES[precision]]
    assert narrow == sum(record.types.values()) - 2 * (precision != "fp32")


def test_fp32_is_ieee_on_cuda_and_tf32_is_named(loaded, monkeypatch):
    for flags in (torch.backends.cuda.matmul, torch.backends.cudnn):
        flags.allow_tf32 = True
    build = engine(loaded, "fp32", monkeypatch)
    with fake_cuda():
        build()
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_predictor_gives_maps_of_the_image_s_size(loaded, precision, monkeypatch):
    build = engine(loaded, precision, monkeypatch)
    with fake_cuda() as record:
        saliency = Predictor(build()).batch([np.zeros((40, 30, 3), np.uint8)] * 2)
    assert [one.shape for one in saliency] == [(40, 30)] * 2 and record.waits == ["torch_engine.py:_run"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_cannot_be_folded_runs_under_autocast(loaded, dtype):
    from inference.engines.preparation import WholeNetwork
    from inference.engines.torch_engine import in_precision

    whole = in_precision(WholeNetwork(network().eval()), dtype)
    with fake_cuda() as record:
        logits = whole.to(CUDA)(torch.empty(2, 3, SIDE, SIDE, device=CUDA))
        assert (logits.device, logits.dtype) == (CUDA, torch.float32)
    assert record.waits == [] and set(record.types) == {dtype}
