"""Which engine `auto` takes, that it remembers, and the errors where something is missing."""

import json
import runpy
from dataclasses import replace
from functools import partial
from itertools import cycle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from inference.engines import choice, preparation, torch_engine
from inference.engines.base import EngineError
from inference.engines.choice import build_engine, engine_device
from inference.predictor import Predictor
from inference.weights import SHIPPED, load_network


@pytest.fixture
def loaded(tiny_weights):
    return load_network(tiny_weights)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Only PyTorch is installed, no choice is stored."""
    monkeypatch.setattr(choice, "installed", lambda name: name == "torch")
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quiet(monkeypatch):
    """A machine that nothing else uses."""
    monkeypatch.setattr(choice.machine, "busy", lambda: False)


class Fake:
    """An engine with the network's maps, changed by `map_of`."""

    size, streams, batch, reason, device = 64, 1, 1, "", torch.device("cpu")

    def __init__(self, network, name, precision, map_of=lambda logits: logits):
        self.network, self.name, self.precision, self.map_of = network, name, precision, map_of

    def __call__(self, images):
        with torch.inference_mode():
            return self.map_of(self.network(images).p1)


@pytest.fixture
def measured(loaded, alone, quiet, monkeypatch):
    """Candidates with injected seconds per image, in turn; returns a function that sets them and builds `auto`."""

    def run(seconds, map_of=None, fails=(), **settings):
        def build(self, engine, precision):
            if (engine, precision) in fails:
                raise RuntimeError("no kernel for this\nand much more")
            return Fake(loaded.network, engine, precision, (map_of or {}).get((engine, precision), lambda x: x))

        turns = {candidate: cycle(values) for candidate, values in seconds.items()}
        monkeypatch.setattr(choice.Wanted, "build", build)
        monkeypatch.setattr(choice.Wanted, "candidates", lambda self: list(seconds))
        monkeypatch.setattr(choice, "_turn", lambda engine, images: lambda: next(turns[engine.name, engine.precision]))
        return build_engine(loaded, **settings)

    return run


TORCH, SHORT, OPENVINO, INT8 = ("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "int8")


def records(folder, kind="choice"):
    return [json.loads(path.read_text()) for path in folder.glob(f"{kind}-*.json")]


def test_auto_gives_its_reason_and_remembers(loaded, alone, quiet, monkeypatch):
    monkeypatch.setattr(choice, "race", lambda turns: choice.Outcome(TORCH, {TORCH: [0.01] * 5}, 0.0))
    first = build_engine(loaded)
    assert first.name == "torch" and "10.0 ms an image here" in first.reason and "of float32's" in first.reason
    assert [record["engine"] for record in records(alone)] == ["torch"]
    monkeypatch.setattr(choice, "_fastest", None)  # a second measurement would fail
    again = build_engine(loaded)
    assert (again.name, again.precision, again.reason) == (first.name, first.precision, first.reason)


def test_memory_is_kept_before_anything_is_timed(loaded, alone, monkeypatch):
    """It changes the times, so the measurement must run as the run does."""
    order = []
    monkeypatch.setattr(choice, "keep_memory", lambda: order.append("kept"))
    monkeypatch.setattr(
        choice, "race", lambda turns: order.append("timed") or choice.Outcome(TORCH, {TORCH: [1.0]}, 0.0)
    )
    build_engine(loaded, precision="fp32")
    assert order == ["kept", "timed"]


def test_another_network_size_processor_or_plugin_is_measured_anew(loaded, alone, quiet, monkeypatch):
    build_engine(loaded)
    build_engine(replace(loaded, sha256="another"))
    build_engine(loaded, size=96)
    monkeypatch.setattr(choice.machine, "processor", lambda: "another processor with AMX")
    build_engine(loaded)
    monkeypatch.setattr(preparation, "user_sources", lambda network: ("another file",))
    build_engine(loaded)
    monkeypatch.setattr(preparation, "version", lambda name: f"another {name}")
    build_engine(loaded)
    assert len(records(alone)) == 6


def test_the_fastest_precision_is_taken_int8_included(measured):
    chosen = measured({TORCH: [0.02], SHORT: [0.015], OPENVINO: [0.012], INT8: [0.007]})
    assert (chosen.name, chosen.precision) == INT8
    assert "7.0 ms an image here (torch fp32 20.0, torch bf16 15.0, openvino fp32 12.0)" in chosen.reason


def test_a_fast_candidate_with_other_maps_is_not_taken(measured):
    wrong = {INT8: lambda logits: logits + 1.0, SHORT: lambda logits: logits * torch.nan}
    chosen = measured({TORCH: [0.02], SHORT: [0.001], OPENVINO: [0.012], INT8: [0.007]}, map_of=wrong)
    assert (chosen.name, chosen.precision) == OPENVINO and "openvino int8 differs by 0." in chosen.reason


def test_an_optional_engine_that_fails_is_left_out_and_named(measured):
    chosen = measured({TORCH: [0.02], OPENVINO: [0.012]}, fails=[OPENVINO])
    assert chosen.name == "torch" and "openvino fp32 failed: no kernel for this" in chosen.reason


def test_a_noisy_measurement_is_repeated_but_not_for_ever(measured, alone):
    seconds = {TORCH: [0.02, 0.03, 0.02], OPENVINO: [0.2]}
    first = measured(seconds)
    assert "the turns differed by 40 %, so it is measured again" in first.reason
    for attempt in (2, 3):
        measured(seconds)
        assert [(one["attempts"], one["settled"]) for one in records(alone)] == [(attempt, False)]
    kept = measured({TORCH: [1.0], OPENVINO: [0.001]})
    assert kept.name == "torch" and records(alone)[0]["attempts"] == 3


def test_a_measurement_on_a_busy_machine_is_repeated(measured, alone, monkeypatch):
    monkeypatch.setattr(choice.machine, "busy", lambda: True)
    assert "the machine was busy" in measured({TORCH: [0.01], OPENVINO: [0.02]}).reason
    monkeypatch.setattr(choice.machine, "busy", lambda: False)
    again = measured({TORCH: [0.02], OPENVINO: [0.01]})
    assert again.name == "openvino" and "busy" not in again.reason
    assert [(one["engine"], one["settled"]) for one in records(alone)] == [("openvino", True)]


def test_few_images_take_pytorch_or_the_stored_choice_without_a_trial(measured, alone):
    first = measured({TORCH: [0.02], OPENVINO: [0.01]}, images=choice.FEW - 1)
    assert (first.name, first.precision) == TORCH and "not compared for 199 images; 200 or more" in first.reason
    assert records(alone) == []  # a later run of many images measures
    many = measured({TORCH: [0.02], OPENVINO: [0.01]}, images=choice.FEW)
    assert (many.name, many.precision) == OPENVINO
    stored = measured({TORCH: [0.01], OPENVINO: [0.02]}, images=1)
    assert (stored.name, stored.precision, stored.reason) == (*OPENVINO, many.reason)


def test_few_images_take_a_choice_that_is_not_settled(measured, alone):
    measured({TORCH: [0.2], OPENVINO: [0.02, 0.03, 0.02]})
    assert [one["settled"] for one in records(alone)] == [False]
    assert measured({TORCH: [0.01], OPENVINO: [0.02]}, images=7).name == "openvino"


def test_a_named_engine_takes_the_fastest_of_its_precisions(measured, alone):
    slow = measured({TORCH: [0.01], SHORT: [0.02]}, engine="torch")  # bfloat16 units without speed, as on some Xeons
    assert (slow.name, slow.precision) == TORCH and "torch bf16 20.0" in slow.reason
    assert measured({TORCH: [0.02], SHORT: [0.01]}).precision == "bf16"  # another question, another record
    assert len(records(alone)) == 2
    assert measured({TORCH: [0.02], SHORT: [0.01]}, engine="torch").precision == "fp32"  # the stored choice
    few = measured({OPENVINO: [0.02], INT8: [0.01]}, engine="openvino", images=1)
    assert (few.name, few.precision) == OPENVINO and "precisions are not compared for 1 image;" in few.reason


def test_few_images_in_a_precision_of_the_users_are_measured(measured):
    assert "7.0 ms an image here" in measured({INT8: [0.007]}, precision="int8", images=7).reason


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"settled": true}', '{"settled": true, "engine": "none"}'])
def test_a_damaged_choice_is_measured_again(measured, alone, content, capsys):
    measured({TORCH: [0.01], OPENVINO: [0.02]})
    (path,) = alone.glob("choice-*.json")
    path.write_text(content)
    assert measured({TORCH: [0.02], OPENVINO: [0.01]}).name == "openvino"
    assert records(alone)[0]["engine"] == "openvino"
    if not content.startswith('{"'):
        assert f"{path}: is damaged; it is made again" in capsys.readouterr().err


def test_a_precision_that_no_engine_has(loaded, alone):
    with pytest.raises(EngineError, match="--precision int8: no installed engine supports it here. Use auto or fp32"):
        build_engine(loaded, precision="int8", calibration=[torch.zeros(3, 64, 64)])


def test_a_precision_whose_maps_differ_too_much(measured):
    with pytest.raises(EngineError, match=r"the maps differ from float32's by 0\.\d+ on average.*--engine openvino"):
        measured({INT8: [0.01]}, map_of={INT8: lambda logits: logits + 1.0}, precision="int8")


def test_candidates_are_all_that_is_installed_and_supported(loaded, monkeypatch):
    monkeypatch.setattr(choice, "installed", lambda name: True)
    monkeypatch.setattr(choice, "precisions", lambda: ["fp32", "bf16", "fp16", "int8"])
    monkeypatch.setattr(choice, "_computes_bf16", lambda: True)
    image = (torch.zeros(3, 64, 64),)
    wanted = choice.Wanted(loaded, "auto", "auto", torch.device("cpu"), 64, (), 1, False)
    without = [TORCH, SHORT, OPENVINO, ("openvino", "bf16"), ("onnxruntime", "fp32")]
    assert wanted.candidates() == without
    assert set(replace(wanted, calibration=image).candidates()) == {*without, INT8, ("onnxruntime", "int8")}
    assert replace(wanted, precision="fp16").candidates() == [("openvino", "fp16")]
    shipped = replace(wanted, loaded=replace(loaded, source=SHIPPED / "lite.safetensors"))
    assert INT8 in replace(shipped, precision="int8").candidates() and len(shipped.samples()) == 14
    assert INT8 not in shipped.candidates()
    monkeypatch.setattr(choice, "installed", lambda name: name == "torch")
    monkeypatch.setattr(choice, "_computes_bf16", lambda: False)
    assert wanted.candidates() == [TORCH]


def test_a_named_engine_is_checked_once_against_the_network(loaded, alone, monkeypatch):
    assert "named by the user, maps within 0.0" in build_engine(loaded, "torch", "fp32").reason
    monkeypatch.setattr(choice, "_difference", None)  # a second check would fail
    build_engine(loaded, "torch", "fp32")
    (alone / "wrong").mkdir()
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(alone / "wrong"))
    monkeypatch.setattr(choice, "_difference", lambda *_: 0.3)
    with pytest.raises(EngineError, match="--engine torch: in fp32 its maps differ from the network's by 0.3000"):
        build_engine(loaded, "torch", "fp32")


def test_a_network_that_folding_changes_runs_unfolded(loaded, alone, monkeypatch, capsys):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = loaded.network(images).p1.sigmoid()
    other = nn.Conv2d(3, 1, 1)
    for wrong in (lambda network, size: other, lambda network, size: 1 / 0):
        monkeypatch.setattr(preparation, "fold", wrong)
        monkeypatch.setenv("AUTO_MSFNET_CACHE", str(alone / str(id(wrong))))
        assert (build_engine(loaded, "torch", "fp32")(images).sigmoid() - exact).abs().max() < 1e-5
        assert "runs unfolded, which is slower" in capsys.readouterr().err
    monkeypatch.setattr(choice, "_computes_bf16", lambda: True)
    monkeypatch.setattr(torch_engine, "choose_precision", lambda name, device: "bf16")
    difference = (build_engine(loaded, "torch", "bf16")(images).sigmoid() - exact).abs()
    assert 0 < difference.mean() < 0.05  # noise through an untrained network


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_unfolded_network_is_converted_too(engine, loaded, tmp_path, monkeypatch):
    """Its input once had another name than a folded network's, which the exporters refused."""
    pytest.importorskip(engine)
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preparation, "fold", lambda network, size: 1 / 0)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = loaded.network(images).p1.sigmoid()
    assert (build_engine(loaded, engine, "fp32")(images).sigmoid() - exact).abs().max() < 1e-4


def test_rounding_of_large_logits_is_no_fault_and_a_wrong_region_is():
    """Seeded weights of the ResNet-50 network have logits of 25,000; float32 moved its map by .004 on one processor."""
    logits = torch.linspace(-2e4, 2e4, 64 * 64).reshape(1, 1, 64, 64)
    network = lambda image: SimpleNamespace(p1=logits)  # noqa: E731
    wrong = logits.clone()
    wrong[..., 32, :8] += 50
    assert preparation._fault(network, lambda image: logits + 0.01, 64) == ""
    assert preparation._fault(network, lambda image: wrong, 64).startswith("folding changes its map by up to 0.")


def test_the_files_of_own_operations_count(loaded, tmp_path):
    assert preparation.user_sources(loaded.network) == ()
    plugin = tmp_path / "own.py"
    found = []
    for body in ("x", "x * 2"):
        method = f"    def forward(self, x):\n        return {body}\n"
        plugin.write_text(f"from torch import nn\nclass Own(nn.Module):\n{method}")
        found.append(preparation.user_sources(nn.Sequential(runpy.run_path(str(plugin))["Own"]())))
    assert len(found[0]) == len(found[1]) == 1 and found[0] != found[1]


@pytest.mark.parametrize(("engine", "device"), [("openvino", "cpu"), ("onnxruntime", "cpu"), ("torch", "cuda")])
def test_engines_without_a_gpu_run_on_the_cpu(engine, device, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engine_device(engine, "auto") == torch.device(device)
    assert ("computes on the CPU; the cuda device is not used" in capsys.readouterr().err) == (device == "cpu")


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
