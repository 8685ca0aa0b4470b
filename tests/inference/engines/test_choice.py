"""Which engine `auto` takes, that it remembers, and what it says where something is missing."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from inference.engines import cache, choice
from inference.engines.base import EngineError
from inference.engines.choice import build_engine
from inference.predictor import Predictor
from inference.weights import load_network


@pytest.fixture
def loaded(tiny_weights):
    return load_network(tiny_weights)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """PyTorch alone is installed, nothing is remembered."""
    monkeypatch.setattr(choice, "installed", lambda name: name == "torch")
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_auto_says_why_and_remembers(loaded, alone, monkeypatch):
    first = build_engine(loaded)
    assert first.name == "torch" and "ms a picture here" in first.reason and "of float32's" in first.reason
    (record,) = alone.glob("*/choice.json")
    assert json.loads(record.read_text())["engine"] == "torch"
    monkeypatch.setattr(choice, "_fastest", None)  # a second trial would fail
    again = build_engine(loaded)
    assert (again.name, again.precision, again.reason) == (first.name, first.precision, first.reason)


def test_another_network_is_tried_anew(loaded, alone):
    build_engine(loaded)
    build_engine(replace(loaded, sha256="another"))
    build_engine(loaded, size=96)
    assert len(list(alone.glob("*/choice.json"))) == 3


def test_the_slower_and_the_wrong_engine_are_not_taken(loaded, alone, monkeypatch):
    """Of three engines one is slow, and one is fast but computes another map."""

    class Other:
        size, streams, batch, reason, precision, device = 64, 1, 1, "", "fp32", torch.device("cpu")

        def __init__(self, name: str, passes: int = 1, map_of=lambda logits: logits) -> None:
            self.name, self.passes, self.map_of = name, passes, map_of

        def __call__(self, images):
            with torch.inference_mode():
                for _ in range(self.passes):
                    logits = loaded.network(images).p1
            return self.map_of(logits)

    wrong = Other("onnxruntime", map_of=lambda logits: torch.full_like(logits, 9.0))
    made = {"torch": Other("torch", 2), "openvino": Other("openvino", 12), "onnxruntime": wrong}
    monkeypatch.setattr(choice, "installed", lambda name: True)
    monkeypatch.setattr(choice._Wanted, "build", lambda self, engine, precision: made[engine])
    monkeypatch.setattr(choice, "version", lambda name: "1")
    chosen = build_engine(loaded)
    assert chosen.name == "torch"
    assert "openvino fp32" in chosen.reason and "onnxruntime fp32" in chosen.reason


def test_an_optional_engine_that_fails_is_left_out_and_named(loaded, alone, monkeypatch):
    build = choice._Wanted.build

    def fails(self, engine, precision):
        if engine != "torch":
            raise RuntimeError("no kernel for this\nand much more")
        return build(self, engine, precision)

    monkeypatch.setattr(choice, "installed", lambda name: True)
    monkeypatch.setattr(choice, "version", lambda name: "1")
    monkeypatch.setattr(choice._Wanted, "build", fails)
    chosen = build_engine(loaded)
    assert chosen.name == "torch" and "openvino failed: no kernel for this, onnxruntime failed" in chosen.reason


def test_int8_that_no_engine_has(loaded, alone):
    with pytest.raises(EngineError, match="--precision int8: none of torch has it here. Use auto or fp32"):
        build_engine(loaded, precision="int8", calibration=[torch.zeros(3, 64, 64)])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_that_is_not_installed(loaded, engine, monkeypatch):
    def absent(name: str):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr("inference.engines.base.importlib.import_module", absent)
    with pytest.raises(EngineError, match=f"--engine {engine}: needs the package {engine}.*requirements-deploy.txt"):
        build_engine(loaded, engine)


def test_an_engine_that_does_not_compute_on_the_device(loaded):
    with pytest.raises(EngineError, match="--engine openvino: computes on the CPU, but the device is cuda"):
        build_engine(loaded, "openvino", device=torch.device("cuda"))


def test_compile_is_pytorchs(loaded):
    with pytest.raises(EngineError, match="--compile: is PyTorch's, not that of --engine openvino"):
        build_engine(loaded, "openvino", compile=True)


def test_a_compiled_network_gives_the_same_maps(loaded, monkeypatch):
    """Traced and run as torch.compile would, without the minutes of its code generator."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    compiled = build_engine(loaded, "auto", "fp32", compile=True)
    assert compiled.name == "torch" and "torch.compile" in compiled.reason
    torch.testing.assert_close(compiled(images), build_engine(loaded, "torch", "fp32")(images), atol=1e-3, rtol=1e-3)


def test_a_predictor_hands_compile_on(loaded, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    predictor = Predictor.from_loaded(loaded, torch.device("cpu"), "fp32", compile=True)
    assert "torch.compile" in predictor.engine.reason


def test_what_is_cached_is_made_once_and_never_half(alone):
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "file").write_text("whole")

    assert (cache.cached("name", make, ["file"]) / "file").read_text() == "whole"
    assert cache.cached("name", make, ["file"]) == alone / "name" and len(calls) == 1
    (alone / "name" / "file").unlink()  # by somebody who makes room
    assert (cache.cached("name", make, ["file"]) / "file").read_text() == "whole" and len(calls) == 2

    def fail(folder):
        (folder / "file").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.cached("other", fail, ["file"])
    assert {path.name for path in alone.iterdir()} == {"name"}


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "file" / "cache"))
    folder = cache.cached("name", lambda place: (place / "made").touch(), ["made"])
    assert (folder / "made").exists() and not folder.is_relative_to(tmp_path)
