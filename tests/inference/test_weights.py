"""Networks on disk: round trips, and every broken, foreign or dangerous file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from inference.weights import load_network, save_weights
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from utils.checkpoint import CheckpointError, save_checkpoint

CONFIG = NetworkConfig("mobilenetv3_small_050", "vgg16", 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(CONFIG).eval()


@pytest.fixture
def weights(network, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_weights(path, network, CONFIG, 96, {"epoch": 3})
    return path


def test_round_trip_of_weights(network, weights):
    loaded = load_network(weights)
    assert (loaded.config, loaded.size, loaded.source) == (CONFIG, 96, weights)
    for key, value in network.state_dict().items():  # float16 keeps 11 bits of a kernel, all of a vector
        torch.testing.assert_close(
            loaded.network.state_dict()[key], value, rtol=2**-11 if value.ndim > 1 else 0, atol=1e-7
        )
    assert not list(weights.parent.glob(".*"))


def test_great_running_variance_survives(network, tmp_path):
    norm = network.laterals[0][1]
    before = norm.running_var.clone()
    norm.running_var.fill_(1e6)
    save_weights(tmp_path / "w.safetensors", network, CONFIG, 96)
    norm.running_var.copy_(before)
    assert load_network(tmp_path / "w.safetensors").network.laterals[0][1].running_var.max() == 1e6


def test_a_changed_genotype_file_does_not_matter(network, tmp_path):
    """The file carries its genotype, so weights load where the JSON that trained them is gone."""
    config = NetworkConfig("mobilenetv3_small_050", str(tmp_path / "gone.json"), 16)
    save_weights(tmp_path / "w.safetensors", network, config, 96)
    assert load_network(tmp_path / "w.safetensors").network.genotype == network.genotype


def test_missing_file_names_what_there_is():
    with pytest.raises(CheckpointError, match="weights 'nowhere.pt': neither a shipped model .* nor a file"):
        load_network("nowhere.pt")


def test_truncated_safetensors(weights):
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"mine.safetensors: truncated or no safetensors file"):
        load_network(weights)


def test_safetensors_of_another_project(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="format is None, expected 'auto-msfnet/1'"):
        load_network(tmp_path / "other.safetensors")


def rewrite(path, **changes):
    """The same file with other metadata."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **changes})


def test_wrong_backbone(weights):
    rewrite(weights, network=json.dumps({"encoder": "resnet50", "genotype": "vgg16", "channels": 16}))
    with pytest.raises(CheckpointError, match="not weights of NetworkConfig.encoder='resnet50'.*another shape"):
        load_network(weights)


def test_settings_of_another_version(weights):
    rewrite(weights, network=json.dumps({"encoder": "resnet50", "depth": 3}))
    with pytest.raises(CheckpointError, match="network settings don't fit this version.*depth"):
        load_network(weights)


def test_truncated_pickle(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CheckpointError, match="last.pt: truncated or no checkpoint"):
        load_network(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02"])
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^[^\n]*x\.pth: [^\n]*$"):
        load_network(path)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('boom')",))

    torch.save({"weights": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="bomb.pt: refused.*could run code"):
        load_network(tmp_path / "bomb.pt")


def test_a_bare_state_dict_of_something_else(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="neither a checkpoint of this project nor of the authors.*conv1.weight"):
        load_network(tmp_path / "x.pt")
    torch.save([1], tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_network(tmp_path / "y.pt")
