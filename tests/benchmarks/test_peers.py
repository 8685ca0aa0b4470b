"""benchmarks/peers.py: pre- and post-processing against values computed by hand, maps, speed and errors."""

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import peers
from benchmarks.peer_networks import (
    corner_resize,
    finish_isnet,
    finish_u2net,
    open_peer,
    prepare_isnet,
    prepare_u2net,
    read_model,
)
from benchmarks.peers_report import WAYS, processor_of, section, write_report
from data.layouts import find_pairs
from evaluation.map_files import pair_maps, read_map
from inference.engines import machine
from inference.weights import load_network
from tests.scored import write_bench
from utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def red(tmp_path):
    """An ONNX file with U2-Net's input whose first output is the red channel."""
    make = onnx.helper
    entry = make.make_tensor_value_info("input.1", onnx.TensorProto.FLOAT, [1, 3, 320, 320])
    results = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 320, 320]) for n in ("red", "rest")]
    bounds = [make.make_tensor(n, onnx.TensorProto.INT64, [1], [v]) for n, v in (("zero", 0), ("one", 1), ("two", 2))]
    nodes = [
        make.make_node("Slice", ["input.1", "zero", "one", "one"], ["red"]),
        make.make_node("Slice", ["input.1", "one", "two", "one"], ["rest"]),
    ]
    graph = make.make_graph(nodes, "red", [entry], results, bounds)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 11)], ir_version=8)
    path = tmp_path / "red.onnx"
    onnx.save(model, path)
    return path


def test_u2net_divides_by_the_largest_value_of_the_image():
    image = np.full((5, 7, 3), (200, 100, 50), np.uint8)
    prepared = prepare_u2net(image, 4)
    assert prepared.shape == (1, 3, 4, 4) and prepared.dtype == np.float32
    expected = ((1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.25 - 0.406) / 0.225)
    assert np.allclose(prepared[0, :, 1, 2], expected, rtol=1e-6)
    assert np.allclose(prepare_u2net(np.zeros((5, 7, 3), np.uint8), 4)[0, 0], -0.485 / 0.229)


def test_u2net_stretches_and_cuts_the_map():
    raw = np.array([[0.25, 0.75], [0.5, 0.25]], np.float32)
    assert finish_u2net(raw, (2, 2)).tolist() == [[0, 255], [127, 0]]  # 127.5 is cut, not rounded
    assert finish_u2net(raw, (3, 5)).shape == (3, 5)
    assert not finish_u2net(np.full((2, 2), 0.5, np.float32), (2, 2)).any()


def test_isnet_centres_on_128():
    image = np.full((5, 7, 3), (192, 128, 0), np.uint8)
    prepared = prepare_isnet(image, 4)
    assert prepared.shape == (1, 3, 4, 4) and prepared.dtype == np.float32
    assert prepared[0, :, 3, 3].tolist() == [0.25, 0, -0.5]


def test_isnet_cuts_the_map():
    assert finish_isnet(np.full((2, 2), 0.5, np.float32), (3, 5)).tolist() == [[127] * 5] * 3


@pytest.mark.parametrize(
    ("row", "width", "expected"),
    [
        ([0, 100], 4, [0, 50, 100, 100]),  # sources 0, 0.5, 1, 1.5; the last pixel is repeated
        ([0, 1], 4, [0, 1, 1, 1]),  # one half rounds up
        ([0, 10, 20, 30], 2, [0, 20]),  # no smoothing
        ([0, 30, 60], 2, [0, 45]),  # sources 0, 1.5
    ],
)
def test_corner_resize_of_rows_and_columns(row, width, expected):
    image = np.array(row, np.uint8)[None, :, None]
    assert corner_resize(image, (1, width))[0, :, 0].tolist() == expected
    assert corner_resize(image.transpose(1, 0, 2), (width, 1))[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_gives_its_first_output(red, engine):
    pytest.importorskip(engine)
    method = open_peer("u2netp", red, engine, "fp32")
    image = np.zeros((320, 320, 3), np.uint8)
    image[:, 160:, 0], image[:, :160, 1] = 255, 255
    image[0, 0, 0] = 102  # (102 / 255 * 255) stays; the network's red decides, not its green
    saliency = method.map(image)
    assert (method.name, method.size, method.precision) == ("U2-Net-p", 320, "fp32")
    assert saliency.shape == (320, 320) and saliency.dtype == np.uint8
    assert (saliency[1:, :160] == 0).all() and (saliency[:, 160:] == 255).all()
    assert abs(int(saliency[0, 0]) - 102) <= 1


def test_maps_and_speed(red, tmp_path, monkeypatch, capsys, tiny_weights):
    """Both of our methods take the tiny network, which is converted once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peers, "load_network", lambda name: load_network(tiny_weights))
    root = write_bench(tmp_path / "bench", 2)
    words = ["--weights", f"u2netp={red}", "--data", f"A={root / 'data'}", "--count", "1", "--rounds", "1",
             "--folder", "5"]  # fmt: skip
    assert peers.main(words) == 0
    maps = pair_maps(find_pairs(root / "data"), tmp_path / "runs/peers/U2-Net-p/A")
    assert len(maps) == 2 and all(read_map(each.map_path).shape == (64, 64) for each in maps)
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = tmp_path / "runs/benchmarks/peers.json"
    assert json.loads(kept.read_text()) == {processor_of(record): record}
    assert set(record["methods"]) == {"lite", "base", "U2-Net-p"}
    for of in record["methods"].values():
        for way in WAYS:
            assert 0 < of[way]["fastest"] <= of[way]["median"] <= of[way]["slowest"]
    with Image.open(tmp_path / "runs/benchmarks/peers.jpg") as sheet:
        assert sheet.width > (1 + len(record["methods"])) * 240, "the image and a map of each method"
    table = (tmp_path / "runs/benchmarks/peers.md").read_text()
    assert "| U2-Net-p | 320 |" in table and "times lite" in table
    other = record | {"machine": "cpu (another) | fp32"}
    kept.write_text(json.dumps({"cpu (another)": other}))
    write_report(kept.parent, record)
    assert list(json.loads(kept.read_text())) == ["cpu (another)", processor_of(record)]
    assert kept.with_suffix(".md").read_text().count("| U2-Net-p | 320 |") == 2, "a section for each processor"
    for spoilt in ("{", json.dumps(record)):  # damaged, and one record alone, as earlier versions wrote it
        kept.write_text(spoilt)
        write_report(kept.parent, record)
        assert json.loads(kept.read_text()) == {processor_of(record): record}


def test_others_are_compared_with_what_auto_takes():
    """An older record, without the time of a folder; lite in int8 takes 5 ms, U2-Net-p 60."""
    times = {"lite": 10, "lite int8": 5, "U2-Net-p": 60}
    methods = {
        name: {"pixels": 8, "megabytes": 1.0, "precision": "fp32"}
        | {key: {"median": ms, "fastest": ms, "slowest": ms} for key in ("network", "pipeline")}
        for name, ms in times.items()
    }
    record = {"methods": methods, "machine": "cpu (X) | fp32", "engine": "openvino", "precision": "fp32",
              "rounds": 1, "count": 1,
              "images": "some", "megapixels": 1}  # fmt: skip
    text = section(record)
    assert text.startswith("## cpu (X)\n") and "Folder" not in text and "times lite int8" in text
    assert "| U2-Net-p | 8 | 1.0 | fp32 | 60.0 (60.0 to 60.0) | 12.0 | 60.0 (60.0 to 60.0) | 12.0 |" in text


def asked(engine, precision):
    """What the command line asks for."""
    return argparse.Namespace(engine=engine, precision=precision)


def test_ours_run_in_int8_too_where_a_calibrated_file_can_be_used(monkeypatch):
    pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    monkeypatch.setattr(peers, "OURS", ("lite",))
    assert peers.open_int8(asked("onnxruntime", "fp32")) == peers.open_int8(asked("openvino", "int8")) == []
    methods = peers.open_int8(asked("openvino", "fp32"))
    if machine.saturates():
        assert not methods
        return
    (method,) = methods
    assert (method.name, method.size, method.precision) == ("lite int8", 256, "int8") and 5 < method.megabytes < 6


def test_the_npm_package_holds_a_model_in_pieces(tmp_path):
    (tmp_path / "b").write_bytes(b"first")
    (tmp_path / "a").write_bytes(b"second")
    index = {"/models/medium": {"chunks": [{"hash": "b"}, {"hash": "a"}]}}
    (tmp_path / "resources.json").write_text(json.dumps(index))
    assert read_model(tmp_path) == b"firstsecond"
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match="no model can be read"):
        read_model(tmp_path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_that_is_no_network(tmp_path, engine):
    pytest.importorskip(engine)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=f"{engine} can't open it") as caught:
        open_peer("u2net", tmp_path / "broken.onnx", engine, "fp32")
    assert "\n" not in str(caught.value) and len(str(caught.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--weights", "u3net=FILE"], "one of the keys u2net, u2netp, isnet"),
        (["--weights", "u2net=FILE", "u2net=FILE"], "u2net is given twice"),
        (["--weights", "u2net=missing.onnx"], "there is no file missing.onnx"),
        (["--weights", "u2net=FILE", "--precision", "bf16"], "computes these files in fp32"),
        (["--weights", "u2net=FILE", "--rounds", "0"], "leaves nothing to do"),
        (["--weights", "u2net=FILE", "--count", "0"], "at least 1"),
    ],
)
def test_wrong_options(red, words, problem):
    with pytest.raises(UserError, match=problem):
        peers.main([word.replace("FILE", str(red)) for word in words])
