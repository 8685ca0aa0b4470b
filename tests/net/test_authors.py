"""The authors' checkpoints load strictly, and give the authors' maps."""

import numpy as np
import pytest
import torch

from inference.weights import load_network
from net import authors, encoder
from net.auto_msfnet import AutoMSFNet
from net.genotype import load
from tests.net.golden import golden_files, golden_input, golden_state, read_keys


@pytest.fixture(scope="module")
def state():
    return golden_state(read_keys(golden_files("resnet50", None)[1]))


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_maps_are_those_of_the_authors(name, request):
    shared = request.getfixturevalue("shared") if name == "vgg16" else None
    maps, keys = golden_files(name, shared)
    network = AutoMSFNet(encoder.build(name), load(name)).eval()
    network.load_state_dict(authors.convert(golden_state(read_keys(keys)), name))
    with torch.inference_mode():
        logits = network(golden_input())
    golden = np.load(maps)
    for output, values in zip(("p1", "p2", "p3"), logits, strict=True):
        difference = np.abs(values[:, :, 1::4, 1::4].numpy() - golden[output]).max()
        assert difference <= 1e-4 * golden[output].std(), output


def test_test_script_reader_recognises_the_file(state, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    loaded = load_network(path)
    assert (loaded.config.encoder, loaded.config.genotype, loaded.size) == ("resnet50", "resnet50", 256)
    assert torch.equal(loaded.network.heads[2].weight, state["conv44.weight"])


def test_every_key_is_used_once(state):
    ours = authors.convert(state, "resnet50")
    assert len(ours) == len([key for key in state if "._nodes." not in key])


def test_other_state_dicts_are_not_recognised():
    assert authors.recognise({"conv1.weight": torch.zeros(1)}) is None
    assert authors.recognise({"feafusion._ops.0.op.1.weight": torch.zeros(1)}) is None


def test_missing_key_is_named(state):
    broken = {key: value for key, value in state.items() if key != "conv44.weight"}
    with pytest.raises(authors.AuthorsError, match=r"f\.pth.*1 tensors are missing \(heads\.2\.weight\)"):
        authors.convert(broken, "resnet50", origin="f.pth")


def test_extra_key_is_named(state):
    with pytest.raises(authors.AuthorsError, match=r"1 are extra \(surprise\)"):
        authors.convert({**state, "surprise": torch.zeros(1)}, "resnet50")


def test_wrong_shape_is_named(state):
    with pytest.raises(authors.AuthorsError, match=r"'heads\.2\.bias' has the shape \(3,\), expected \(1,\)"):
        authors.convert({**state, "conv44.bias": torch.zeros(3)}, "resnet50")


def test_repeated_tensors_must_be_equal(state):
    key = next(key for key in state if "._nodes." in key and key.endswith("weight"))
    with pytest.raises(authors.AuthorsError, match="here they differ"):
        authors.convert({**state, key: state[key] + 1}, "resnet50")
