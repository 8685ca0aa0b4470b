"""PyTorch's engine: the maps of the network, in every batch size, precision and thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

from data.image_io import read_image
from data.transforms import prepare_image
from inference.engines import packing
from inference.engines.base import EngineError
from inference.engines.choice import build_engine
from inference.engines.torch_engine import TorchEngine
from inference.weights import load_network
from utils.device import DeviceError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(tiny_weights):
    return load_network(tiny_weights)


@pytest.fixture(scope="module")
def photos(root):
    return [read_image(path) for path in sorted((root / "data" / "samples").glob("*.jpg"))]


def maps_of(network, images):
    with torch.inference_mode():
        return network(images).p1.sigmoid()


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_batch_size_gives_the_networks_maps(loaded, count, streams):
    images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
    engine = build_engine(loaded, "torch", "fp32", streams=streams)
    assert (engine.name, engine.precision, engine.size, engine.streams) == ("torch", "fp32", 64, streams)
    logits = engine(images)
    assert logits.shape == (count, 1, 64, 64) and logits.dtype == torch.float32
    assert (logits.sigmoid() - maps_of(loaded.network, images)).abs().max() < 1e-4


def test_float32_maps_of_the_shipped_network_on_photos(photos):
    shipped = load_network("lite")
    images = torch.stack([prepare_image(image, 128) for image in photos])
    exact = maps_of(shipped.network, images)
    assert exact.std() > 0.1  # photos with something in them
    assert (build_engine(shipped, "torch", "fp32", size=128)(images).sigmoid() - exact).abs().max() < 1e-4


def test_bf16_maps_of_the_shipped_network_on_photos(photos):
    shipped = load_network("lite")
    try:
        engine = build_engine(shipped, "torch", "bf16")
    except DeviceError as error:
        pytest.skip(str(error))
    images = torch.stack([prepare_image(image, shipped.size) for image in photos])
    difference = (engine(images).sigmoid() - maps_of(shipped.network, images)).abs().mean()
    assert 0 < difference < 1 / 255


def test_threads_may_call_at_once(loaded):
    batches = [torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    engine = build_engine(loaded, "torch", "fp32", streams=2)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(engine, batches))
    for logits, batch in zip(together, batches, strict=True):
        assert torch.equal(logits, engine(batch))


def test_the_callers_number_of_threads_is_left_as_it_was(loaded):
    before = torch.get_num_threads()
    build_engine(loaded, "torch", "fp32", streams=4)(torch.zeros(1, 3, 64, 64))
    assert torch.get_num_threads() == before


def test_images_of_another_size_are_refused(loaded):
    engine = build_engine(loaded, "torch", "fp32")
    for shape in ((1, 3, 64, 96), (1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(EngineError, match=r"this engine was built for \(B, 3, 64, 64\)"):
            engine(torch.zeros(shape))


def test_precisions_that_pytorch_lacks(loaded):
    with pytest.raises(EngineError, match="--precision int8: not supported by PyTorch's engine"):
        build_engine(loaded, "torch", "int8", calibration=[torch.zeros(3, 64, 64)])
    with pytest.raises(DeviceError, match="--precision fp16: CPUs"):
        build_engine(loaded, "torch", "fp16")


def test_bf16_where_the_processor_has_it_not(loaded, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    with pytest.raises(DeviceError, match="--precision bf16: this cpu device has no bfloat16 units"):
        build_engine(loaded, "torch", "bf16")
    assert build_engine(loaded, "torch", "auto").precision == "fp32"


def test_without_the_operators_of_onednn_the_maps_are_the_same(loaded, monkeypatch, capsys):
    """As on processors for which PyTorch is built without oneDNN."""
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    packed = TorchEngine(loaded, 64, "fp32", CPU)(images)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert (TorchEngine(loaded, 64, "fp32", CPU)(images) - packed).abs().max() < 1e-4
    assert "has no oneDNN; the engine runs slower" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["missing", "changed", "wrong"])
def test_private_operators_that_another_pytorch_changed(loaded, monkeypatch, capsys, broken):
    """They are private: a version may drop them, take other arguments, or compute something else."""
    if packing.unavailable():
        pytest.skip(packing.unavailable())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    packed = TorchEngine(loaded, 64, "fp32", CPU)(images)
    real = torch.ops.mkldnn
    convolve = real._convolution_pointwise
    operators = SimpleNamespace(_reorder_convolution_weight=real._reorder_convolution_weight)
    if broken == "changed":
        operators._convolution_pointwise = lambda x: x
    if broken == "wrong":
        operators._convolution_pointwise = SimpleNamespace(binary=lambda *a: -convolve.binary(*a))
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    assert (TorchEngine(loaded, 64, "fp32", CPU)(images) - packed).abs().max() < 1e-4
    assert "note: --engine torch: " in capsys.readouterr().err


class Block(nn.Module):
    """Every pattern that packing looks for: an activation, a sum, a sum that another reads, terms of other shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.third, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.relu6 = nn.ReLU6()

    def forward(self, x):
        a = self.first(x).relu()
        b = (self.second(a) + a).relu()
        c = self.third(b) + a.mean((2, 3), keepdim=True)  # of another shape: stays an addition
        d = self.relu6(self.last(c))
        return d + self.second(d) + c


def test_packing_keeps_what_a_block_computes():
    if packing.unavailable():
        pytest.skip(packing.unavailable())
    torch.manual_seed(0)
    block = Block().eval().requires_grad_(False)
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    packed = packing.pack(fx.symbolic_trace(block), x)
    assert sum(isinstance(module, packing.PackedConv) for module in packed.modules()) == 5
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), block(x), atol=1e-5, rtol=1e-5)


def test_the_network_is_left_as_it_was(loaded):
    before = {key: value.clone() for key, value in loaded.network.state_dict().items()}
    build_engine(replace(loaded), "torch", "auto")(torch.zeros(2, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in loaded.network.state_dict().items())
