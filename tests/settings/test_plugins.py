"""Plugins: the files in examples/ register their parts; a file that fails is one line with its cure."""

import inspect
from pathlib import Path

import pytest
import torch

from net import encoder, losses, operations
from net.auto_msfnet import Logits, build_network
from net.losses import LossError, saliency_loss
from net.mixture import MixedOp
from net.settings import LossConfig, NetworkConfig
from settings.parser import RENAMED, arguments
from settings.plugins import PluginError, Registry, run_files

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def own_registries(monkeypatch):
    for module in (operations, losses, encoder):
        monkeypatch.setattr(module.REGISTRY, "parts", dict(module.REGISTRY.parts))


def test_an_operation():
    run_files([EXAMPLES / "operation.py"])
    x = torch.randn(2, 16, 5, 5)
    assert operations.build("conv_1x1", 16)(x).shape == x.shape
    mixed = MixedOp(["none", "conv_1x1"], 16)
    torch.testing.assert_close(mixed(x), mixed.definition(x))


def test_a_loss_term():
    run_files([EXAMPLES / "loss_term.py"])
    logits, mask = Logits(*torch.randn(3, 2, 1, 8, 8)), (torch.rand(2, 1, 8, 8) > 0.5).float()
    plain, config = saliency_loss(logits, mask, LossConfig()), LossConfig(terms={"dice": 0.5})
    found = saliency_loss(logits, mask, config)
    dice = [losses.REGISTRY.find("dice")(output, mask) for output in logits]
    torch.testing.assert_close(found.registered, 0.5 * sum(dice))
    torch.testing.assert_close(found.total, plain.total + found.registered)
    assert plain.registered == 0 and torch.equal(plain.total, plain.bce + plain.iou + plain.polish)
    probability = torch.sigmoid(logits.p1[0])
    by_hand = 1 - (2 * (probability * mask[0]).sum() + 1) / (probability.sum() + mask[0].sum() + 1)
    torch.testing.assert_close(losses.REGISTRY.find("dice")(logits.p1[:1], mask[:1]), by_hand)


def test_an_unregistered_loss_term():
    with pytest.raises(LossError, match=r"loss term 'dice' is not registered. Registered: none. .* --plugins"):
        saliency_loss(Logits(*torch.zeros(3, 1, 1, 8, 8)), torch.zeros(1, 1, 8, 8), LossConfig(terms={"dice": 1.0}))


def test_an_encoder():
    run_files([EXAMPLES / "encoder.py"])
    network = build_network(NetworkConfig("tiny", "resnet50", 16)).eval()
    assert network(torch.zeros(1, 3, 64, 96)).p1.shape == (1, 1, 64, 96)
    with pytest.raises(encoder.EncoderError, match="'tiny' has no ImageNet weights"):
        encoder.build("tiny", "imagenet")


def test_a_file_may_run_twice_but_a_name_belongs_to_one_part(tmp_path):
    run_files([EXAMPLES / "operation.py", EXAMPLES / "operation.py"])
    other = tmp_path / "other.py"
    other.write_text((EXAMPLES / "operation.py").read_text())
    with pytest.raises(PluginError, match=r"plugin .*other.py: operation 'conv_1x1' is registered already"):
        run_files([other])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\nx +\n", r", line 2: SyntaxError: .* Correct that line"),
        ("import math\n\nmath.sqrt('a')\n", r", line 3: TypeError: must be real number, not str. Correct that line"),
        ("import no_such_package\n", r", line 1: ModuleNotFoundError: .* Install it with pip"),
        ("raise SystemExit(3)\n", r", line 1: it ends the program"),
        ("from net.operations import operation\noperation('conv_3x3')(lambda c, a: None)\n", "registered already"),
        (b"\xff\xfe\x00", ": SyntaxError: .* Correct that line"),
    ],
)
def test_a_file_that_fails_is_one_line(tmp_path, text, told):
    file = tmp_path / "mine.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PluginError, match=f"plugin .*mine.py.*{told}") as caught:
        run_files([file])
    assert "\n" not in str(caught.value)


def test_a_missing_file():
    with pytest.raises(PluginError, match=r"plugin gone.py: no such file"):
        run_files([Path("gone.py")])
    for name, told in ((".", "Is a directory"), ("x" * 3000, "File name too long")):
        with pytest.raises(PluginError, match=f"{told}. Give the path of a Python file"):
            run_files([Path(name)])


def test_the_old_option_is_an_alias(capsys):
    parser = arguments("Test.")
    parser.add_argument("--plugins", type=Path, nargs="+", default=[])
    assert RENAMED["operations"] == "plugins"
    assert parser.parse_args(["--operations", "a.py", "b.py"]).plugins == [Path("a.py"), Path("b.py")]
    assert "--operations is now written --plugins" in capsys.readouterr().err


def test_every_example_states_its_command():
    for name in ("operation", "loss_term", "encoder"):
        text = (EXAMPLES / f"{name}.py").read_text()
        assert f"--plugins examples/{name}.py" in text


def test_a_registry_keeps_the_order():
    registry = Registry("thing", PluginError)
    registry.register("b")(inspect.cleandoc)
    registry.register("a")(inspect.getdoc)
    assert registry.names() == ("b", "a") and registry.find("b") is inspect.cleandoc
