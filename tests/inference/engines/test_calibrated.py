"""Calibrated int8 files beside the weights: when they count, and that OpenVINO runs them without calibration."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
import torch

import export
from inference.engines import calibrated, choice, conversion
from inference.engines.calibrated import calibrated_file
from inference.engines.choice import TOLERANCE, build_engine
from inference.engines.sample_images import prepared_samples
from inference.weights import SHIPPED, load_network
from utils.errors import UserError

CPU = torch.device("cpu")


def write(folder: Path, sha256: str, size: int, kind: str = "auto-msfnet-network/1") -> None:
    record = json.dumps({"format": kind, "weights": {"sha256": sha256}, "size": size})
    text = f"<net><rt_info><auto_msfnet value={quoteattr(record)} /></rt_info></net>"
    (folder / "tiny_int8.xml").write_text(text)
    (folder / "tiny_int8.bin").touch()


@pytest.fixture
def loaded(tiny_weights, tmp_path, monkeypatch):
    """The tiny network, as if it shipped from an empty folder, on a processor that needs no 7-bit weights."""
    monkeypatch.setattr(calibrated, "SHIPPED", tmp_path)
    monkeypatch.setattr(calibrated.machine, "saturates", lambda: False)
    shutil.copy(tiny_weights, tmp_path / "tiny.safetensors")
    return load_network(tmp_path / "tiny.safetensors")


def test_a_file_counts_for_its_own_weights_and_size(loaded, tmp_path, monkeypatch):
    assert calibrated_file(loaded, 64) is None
    write(tmp_path, loaded.sha256, 64)
    assert calibrated_file(loaded, 64) == tmp_path / "tiny_int8.xml"
    assert calibrated_file(loaded, 96) is None
    assert calibrated_file(replace(loaded, sha256="0" * 64), 64) is None
    assert calibrated_file(replace(loaded, source=tmp_path / "own" / "tiny.safetensors"), 64) is None
    monkeypatch.setattr(calibrated.machine, "saturates", lambda: True)
    assert calibrated_file(loaded, 64) is None


def test_a_damaged_file_does_not_count(loaded, tmp_path):
    write(tmp_path, loaded.sha256, 64)
    (tmp_path / "tiny_int8.bin").unlink()
    assert calibrated_file(loaded, 64) is None
    write(tmp_path, loaded.sha256, 64)
    text = (tmp_path / "tiny_int8.xml").read_text()
    (tmp_path / "tiny_int8.xml").write_text(text.replace("<net>", '<net><data offset="0" size="9"/><data shape="9"/>'))
    (tmp_path / "tiny_int8.bin").write_bytes(bytes(8))
    assert calibrated_file(loaded, 64) is None, "the weights end too early"
    (tmp_path / "tiny_int8.bin").write_bytes(bytes(9))
    assert calibrated_file(loaded, 64) is not None
    (tmp_path / "tiny_int8.xml").write_text("<net><rt_info>")
    assert calibrated_file(loaded, 64) is None


@pytest.mark.parametrize("text", ["<net/>", "<net><rt_info><auto_msfnet value='[1]'/></rt_info></net>"])
def test_a_file_without_a_record_is_an_error_with_its_cure(loaded, tmp_path, text):
    write(tmp_path, loaded.sha256, 64)
    (tmp_path / "tiny_int8.xml").write_text(text)
    with pytest.raises(UserError, match=r"tiny_int8\.xml: .*Export it again"):
        calibrated_file(loaded, 64)


def test_auto_tries_it_without_images_and_not_beside_those_of_the_user(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "installed", lambda name: name != "nncf")
    monkeypatch.setattr(choice, "precisions", lambda: ["fp32", "int8"])
    wanted = choice.Wanted(loaded, "auto", "auto", CPU, 64, (), 1, False)
    before = wanted.key()
    assert ("openvino", "int8") not in wanted.candidates()
    write(tmp_path, loaded.sha256, 64)
    assert ("openvino", "int8") in wanted.candidates() and ("onnxruntime", "int8") not in wanted.candidates()
    assert wanted.key() != before, "an earlier choice was made without it"
    own = replace(wanted, calibration=(torch.zeros(3, 64, 64),))
    assert not own.ships_int8() and ("openvino", "int8") not in own.candidates()


@pytest.mark.parametrize("name", [path.stem.removesuffix("_int8") for path in sorted(SHIPPED.glob("*_int8.xml"))])
def test_the_shipped_files_keep_the_maps_and_need_no_calibration(name, monkeypatch):
    pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    if calibrated.machine.saturates():
        pytest.skip("8-bit products saturate on this processor")
    monkeypatch.setattr(conversion, "quantise", None)  # calling it would fail
    network = load_network(name)
    assert calibrated_file(network, network.size) == SHIPPED / f"{name}_int8.xml"
    engine, images = build_engine(network, "openvino", "int8"), prepared_samples(network.size)
    with torch.inference_mode():
        exact = torch.cat([network.network(image).p1 for image in images.split(1)]).sigmoid()
        difference = (engine(images).sigmoid() - exact).abs().mean().item()
    assert engine.precision == "int8" and 0 < difference <= TOLERANCE


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*_int8.xml")), ids=lambda path: path.stem)
def test_the_first_convolution_and_the_head_are_not_quantised(path):
    openvino = pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    model = openvino.Core().read_model(path)
    kind = lambda node: node.get_type_name()  # noqa: E731
    before = lambda node: [port.get_node() for port in node.input_values()]  # noqa: E731
    first, *others = [node for node in model.get_ordered_ops() if "Convolution" in kind(node)]
    read_by_first = [kind(node) for node in before(first)]
    assert "FakeQuantize" not in read_by_first and any("FakeQuantize" in map(kind, before(node)) for node in others)
    waiting, seen = list(model.get_results()), []
    while waiting:
        node = waiting.pop()
        seen.append(kind(node))
        if kind(node) != "Relu":
            waiting += before(node)
    assert "FakeQuantize" not in seen and seen.count("Convolution") == 2 and "MatMul" in seen


@pytest.mark.slow
def test_a_file_is_made_by_export(tmp_path, root, monkeypatch, capsys):
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package} (requirements-deploy.txt)")
    monkeypatch.setattr(calibrated, "SHIPPED", tmp_path)
    monkeypatch.setattr(calibrated.machine, "saturates", lambda: False)
    weights = shutil.copy(SHIPPED / "lite.safetensors", tmp_path)  # noise instead of training would not survive 8 bits
    command = ["--weights", weights, "--engine", "openvino", "--precision", "int8", "--form", "network", "--size", "96"]
    command += ["--calibration", root / "data/samples", "--bias-correction", "layers"]
    command += ["--out", tmp_path / "lite_int8.xml"]
    assert export.main(list(map(str, command))) == 0
    assert "against PyTorch float32 on 7 images" in capsys.readouterr().out
    loaded, images = load_network(weights), prepared_samples(96)
    assert calibrated_file(loaded, 96) == tmp_path / "lite_int8.xml"
    monkeypatch.setattr(conversion, "quantise", None)  # calling it would fail
    maps = build_engine(loaded, "openvino", "int8", size=96)(images).sigmoid()
    with torch.inference_mode():
        assert 0 < (maps - loaded.network(images).p1.sigmoid()).abs().mean() < 0.02
