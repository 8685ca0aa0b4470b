"""A compact ONNX file has the weights of the plain one to the bit."""

import copy

import numpy as np
import pytest
import torch

from inference.compact import compact
from inference.engines import conversion
from inference.folding.network import fold
from inference.weights import load_network

onnx = pytest.importorskip("onnx", reason="needs onnx (requirements-deploy.txt)")
pytest.importorskip("onnxscript", reason="needs onnxscript (requirements-deploy.txt)")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (requirements-deploy.txt)")


@pytest.fixture(scope="module")
def plain(tiny_weights):
    """The tiny network at 64 pixels, as ONNX, and itself."""
    network = load_network(tiny_weights).network
    model = conversion.to_onnx(fold(network, 64), {"image": torch.zeros(1, 3, 64, 64)}, ["logits"], {})
    return model, network


def weights(model):
    """Every float32 tensor that a convolution reads, computed where it is a product."""
    graph = model.graph
    names = sorted({node.input[1] for node in graph.node if node.op_type == "Conv"})
    made = {name for node in graph.node for name in node.output}
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    probe = copy.deepcopy(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in names if n in made)
    computed = [one.name for one in probe.graph.output]
    if computed:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
        image = {"image": np.zeros((1, 3, 64, 64), np.float32)}
        stored |= dict(zip(computed, session.run(computed, image), strict=True))
    return {name: stored[name] for name in names}


def test_weights_and_logits_are_the_same_to_the_bit(plain):
    model, network = plain
    small = copy.deepcopy(model)
    assert compact(small, network) == 17
    onnx.checker.check_model(small)
    assert len(small.SerializeToString()) < 0.75 * len(model.SerializeToString())  # lite, in tests/test_cutout.py: < .6
    expected, found = weights(model), weights(small)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    logits = [
        onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"image": image}
        )[0]
        for one in (model, small)
    ]
    np.testing.assert_array_equal(*logits)


def test_kernels_that_float16_does_not_hold_stay_as_they_are(plain):
    model, network = plain
    trained = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.0001)
    same = copy.deepcopy(model)
    assert compact(same, trained) == 0 and same == model
