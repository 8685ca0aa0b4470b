"""The runner of ONNX files: both forms, by small graphs whose maps are known, and files that it refuses."""

import json

import numpy as np
import pytest

from data.preparation import prepare_array
from inference.errors import EngineError
from inference.export_records import FORMS, KEY
from inference.onnx_maps import OnnxMaps
from inference.saliency import restore

onnx = pytest.importorskip("onnx", reason="needs onnx (requirements-deploy.txt)")
make, proto = onnx.helper.make_node, onnx.TensorProto


def write(path, form, nodes, given, returned, record=None):
    """A model of a few nodes; its record names the form."""
    tensor, value = onnx.helper.make_tensor, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "small", [value("image", *given)], [value("y", proto.FLOAT, returned)],
        [tensor("last", proto.INT64, [1], [3]), tensor("first", proto.INT64, [1], [1]),
         tensor("most", proto.FLOAT, [], [255.0])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    record = {"format": FORMS.get(form, form)} if record is None else record
    onnx.helper.set_model_props(model, {KEY: json.dumps(record)})
    onnx.save(model, path)
    return path


def mean_image(path):
    """Form `image`: the map is the mean of the channels."""
    nodes = [
        make("Cast", ["image"], ["float"], to=proto.FLOAT),
        make("ReduceMean", ["float", "last"], ["mean"], keepdims=0),
        make("Div", ["mean", "most"], ["y"]),
    ]
    return write(path, "image", nodes, (proto.UINT8, ["B", "H", "W", 3]), ["B", "H", "W"])


def mean_network(path, shape=(1, 3, 32, 32)):
    """Form `network`: the logits are the mean of the channels."""
    nodes = [make("ReduceMean", ["image", "first"], ["y"], keepdims=1)]
    return write(path, "network", nodes, (proto.FLOAT, shape), [1, 1, "H", "W"])


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 40, 70, 3), dtype=np.uint8)


def test_the_image_form_takes_pixels_as_they_are(tmp_path, images):
    maps = OnnxMaps(mean_image(tmp_path / "a.onnx"))
    expected = images.mean(axis=3) / 255
    np.testing.assert_allclose(maps.batch(images), expected, atol=1e-6)
    np.testing.assert_allclose(maps(images[0]), expected[0], atol=1e-6)


def test_the_network_form_is_prepared_and_restored_as_in_test_py(tmp_path, images):
    maps = OnnxMaps(mean_network(tmp_path / "a.onnx"))
    expected = [restore(prepare_array(image, 32).mean(axis=2), (40, 70)) for image in images]
    np.testing.assert_allclose(maps.batch(images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("record", "says"),
    [({}, "format is None"), ([1], "format is None"), ({"format": "other/9"}, "format is 'other/9'")],
)
def test_another_record_is_refused(tmp_path, record, says):
    path = write(tmp_path / "a.onnx", "", [make("Identity", ["image"], ["y"])], (proto.FLOAT, [1]), [1], record)
    with pytest.raises(EngineError, match=says):
        OnnxMaps(path)


@pytest.mark.parametrize("shape", [(1, 3, "S", "S"), (1, 1, 32, 32), (1, 3, 32, 64), (3, 32)])
def test_a_network_without_a_fixed_square_is_refused(tmp_path, shape):
    with pytest.raises(EngineError, match=r"its input is .*, expected \[1, 3, S, S\]"):
        OnnxMaps(mean_network(tmp_path / "a.onnx", shape))


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(EngineError, match=r"none\.onnx: no such file"):
        OnnxMaps(tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(mean_image(tmp_path / "a.onnx").read_bytes()[:100])
    with pytest.raises(EngineError, match=r"cut\.onnx: ONNX Runtime .* cannot read it"):
        OnnxMaps(tmp_path / "cut.onnx")
