"""Networks on disk: round trips, and every broken, foreign or dangerous file."""

import hashlib
import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inference.weights import load_network, save_weights
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from utils.checkpoint import CheckpointError, parse_checkpoint, save_checkpoint

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


@pytest.mark.parametrize("kind", ["gate", "attention"])
def test_round_trip_with_a_block_on_e5(kind, network, tmp_path):
    config = replace(CONFIG, context=kind)
    torch.manual_seed(1)
    ours = build_network(config).eval()
    torch.nn.init.normal_(ours.context.get_parameter({"gate": "excite", "attention": "project"}[kind] + ".weight"))
    path = tmp_path / "mine.safetensors"
    save_weights(path, ours, config, 96)
    loaded = load_network(path)
    assert loaded.config == config
    found = loaded.network.context.state_dict()
    for key, value in ours.context.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=2**-11 if value.ndim > 1 else 0, atol=1e-7)
    rewrite(path, network=json.dumps({**asdict(config), "context": "none"}))
    with pytest.raises(CheckpointError, match="context='none'.*'context."):
        load_network(path)


def test_weights_without_a_block_are_those_of_before_it(weights):
    """So earlier versions read them, and files of earlier versions load."""
    with safe_open(weights, "pt") as file:
        assert "context" not in json.loads(file.metadata()["network"])
    assert load_network(weights).config == CONFIG and CONFIG.context == "none"
    rewrite(weights, network=json.dumps(asdict(CONFIG)))
    assert load_network(weights).config == CONFIG, "a file that names none"


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value.index_fill(0, torch.tensor([0]), float("nan")), "holds NaN or infinity"),
        (lambda value: value.index_fill(0, torch.tensor([0]), float("inf")), "holds NaN or infinity"),
        (lambda value: value.to(torch.int32), "is torch.int32, expected floating-point"),
        (lambda value: value > 0, "is torch.bool, expected floating-point"),
        (lambda value: value.to(torch.complex64), "is torch.complex64, expected floating-point"),
    ],
)
def test_values_that_cannot_be_weights_name_the_tensor(network, tmp_path, spoil, message):
    state = checkpoint(network)
    key = next(key for key in state["weights"] if key.startswith("laterals") and state["weights"][key].ndim == 4)
    state["weights"][key] = spoil(state["weights"][key])
    save_checkpoint(tmp_path / "bad.pt", state)
    with pytest.raises(CheckpointError, match=rf"bad\.pt: '{key}' {message}"):
        load_network(tmp_path / "bad.pt")


def checkpoint(network):
    record = {"encoder": CONFIG.encoder, "genotype": CONFIG.genotype, "channels": CONFIG.channels}
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    return {"format": "auto-msfnet/1", "network": record, "genotype": network.genotype.to_json(), "size": 96,
            "weights": weights}  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state": s}, lambda s: {"a": {"b": s}}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_unwrapped(network, tmp_path, wrap, prefix):
    state = checkpoint(network)
    state["weights"] = {prefix + key: value for key, value in state["weights"].items()}
    save_checkpoint(tmp_path / "wrapped.pt", wrap(state))
    loaded = load_network(tmp_path / "wrapped.pt").network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network", None, "network settings don't fit"), ("network", [1], "network settings don't fit"),
        ("network", {"encoder": 5}, "network settings don't fit"), ("genotype", 3, "holds no 'genotype'"),
        ("network", {"channels": 10**9}, "network settings don't fit"),
        ("network", {"context": "pyramid"}, "network settings don't fit.*'pyramid', expected one of none"),
        ("network", {"context": []}, r"network settings don't fit.*context: \[\], expected"),
        ("weights", [1], "holds no 'weights'"),
        ("size", 10**9, "its input size is 1000000000"), ("size", -1, "its input size is -1"),
        ("size", None, "its input size is None"),
    ],
)  # fmt: skip
def test_metadata_of_any_shape_is_one_line(network, tmp_path, key, value, message):
    save_checkpoint(tmp_path / "odd.pt", checkpoint(network) | {key: value})
    with pytest.raises(CheckpointError, match=message):
        load_network(tmp_path / "odd.pt")


def test_the_hash_is_of_the_bytes_that_were_loaded(network, weights, monkeypatch):
    """A training replaces the file while it is read: network and checksum still belong together."""
    before = weights.read_bytes()
    replaced = []

    def replacing(content, path):
        replaced.append(path.write_bytes(b"the next epoch"))
        return parse_checkpoint(content, path)

    monkeypatch.setattr("inference.weights.parse_checkpoint", replacing)
    assert load_network(weights).sha256 == hashlib.sha256(before).hexdigest()
    assert replaced


def test_saved_weights_name_no_folder(network, tmp_path):
    config = NetworkConfig(CONFIG.encoder, str(tmp_path / "mine.json"), CONFIG.channels)
    notes = {"data": {"root": "/home/me/DUTS", "list": ["C:\\data\\a.txt", "b.txt"]}, "epochs": 3}
    save_weights(tmp_path / "w.safetensors", network, config, 96, notes)
    content = (tmp_path / "w.safetensors").read_bytes()
    assert str(tmp_path).encode() not in content and b"/home/me" not in content and b"C:" not in content
    assert b"DUTS" in content and b"a.txt" in content and b"mine.json" in content
