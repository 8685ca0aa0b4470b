"""export.py from end to end, and the examples that run its files alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export
from inference.engines.base import EngineError
from inference.engines.exported import open_exported
from inference.predictor import Predictor
from utils.errors import UserError

NEEDED = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "torch": ()}


def need(*packages):
    for package in packages:
        pytest.importorskip(package, reason=f"needs {package} (requirements-deploy.txt)")


@pytest.fixture(scope="module")
def make(tiny_weights, tmp_path_factory, root):
    """Exports the tiny network once for every engine."""
    folder, made = tmp_path_factory.mktemp("export"), {}

    def of(engine):
        need(*NEEDED[engine])
        if engine not in made:
            path = folder / f"tiny{export.SUFFIXES[engine]}"
            photo = root / "data/samples/cat.jpg"
            command = ["--weights", tiny_weights, "--engine", engine, "--out", path, "--images", photo]
            assert export.main(list(map(str, command))) == 0
            made[engine] = path
        return made[engine]

    return of


@pytest.fixture(scope="module")
def predictor(tiny_weights):
    return Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnxruntime"])
def test_a_file_takes_any_number_of_images_of_any_size(make, engine, predictor):
    exported = open_exported(make(engine))
    for shape in ((1, 33, 70), (3, 64, 64), (2, 500, 20), (1, 5, 3), (1, 40, 1), (2, 1, 40), (1, 1, 1)):
        images = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
        maps = exported.run(images)
        assert maps.shape == shape and maps.dtype == np.float32
        # Noise that is stretched to a square asks more of a resize than any photo.
        np.testing.assert_allclose(maps, np.stack(predictor.batch(list(images))), atol=1e-3)


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnxruntime"])
def test_a_file_tells_how_near_it_is(make, engine, tiny_weights):
    record = open_exported(make(engine)).record
    assert record["format"] == "auto-msfnet-map/1" and record["precision"] == "fp32" and record["size"] == 64
    assert record["weights"]["file"] == tiny_weights.name and len(record["weights"]["sha256"]) == 64
    found = record["checks"]["differences"]
    assert found["images"] == 1 and 0 < found["greatest"] < 1e-4 and 0 < found["mean"] < 1e-5
    assert {path.name for path in make(engine).parent.iterdir()} <= {
        "tiny.onnx",
        "tiny.xml",
        "tiny.bin",
        "tiny.pt2",
    }  # nothing half written is left


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_examples_need_the_runtime_alone(make, engine, predictor, root, tmp_path):
    """PyTorch and this project's packages are kept from them."""
    script = root / "examples" / {"openvino": "openvino_runtime.py", "onnxruntime": "onnx_runtime.py"}[engine]
    lines = [line for path in (script, script.with_name("reading.py")) for line in path.read_text().splitlines()]
    assert len([line for line in lines if line]) <= 35, "few enough to copy"
    photo = root / "data/samples/coffee.jpg"
    kept_out = "import sys; sys.modules.update(torch=None, data=None, net=None, utils=None); "
    code = f"{kept_out}import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", f"import sys; sys.path[0] = {str(script.parent)!r}; {code}"]
    command += [script, make(engine), photo, tmp_path / "map.png"]
    subprocess.run(list(map(str, command)), check=True, cwd=tmp_path)
    written = np.asarray(Image.open(tmp_path / "map.png")).astype(float)
    expected = 255 * predictor(photo)
    assert written.shape == expected.shape
    assert np.abs(written - expected).max() <= 0.51  # only rounded


@pytest.mark.slow
def test_int8_is_calibrated_on_the_users_images_and_scores_are_reported(root, tmp_path, bench, capsys):
    need("openvino", "nncf")
    path = tmp_path / "small.xml"
    command = ["--size", "128", "--engine", "openvino", "--precision", "int8", "--out", path]
    command += ["--calibration", root / "data/samples", "--images", root / "data/samples", "--data", f"B={bench}/data"]
    assert export.main(list(map(str, command))) == 0
    record = open_exported(path).record
    change = record["checks"]["scores"]["B"]["mae"]
    assert change["change"] == pytest.approx(change["exported"] - change["torch"], abs=2e-5)
    assert 0 < record["checks"]["differences"]["mean"] < export.ALLOWED["int8"] and "nncf" in record["versions"]
    printed = capsys.readouterr().out
    assert "greatest difference" in printed and "max F" in printed and "MAE" in printed


def test_a_file_can_be_verified_again(make, tiny_weights, capsys):
    path = make("torch")
    assert export.main(["--verify", str(path), "--weights", str(tiny_weights)]) == 0
    assert "against PyTorch float32 on 7 images" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"was made from tiny\.safetensors .* but --weights lite is"):
        export.main(["--verify", str(path)])


def test_maps_that_differ_are_not_written(tiny_weights, tmp_path, monkeypatch, root):
    monkeypatch.setitem(export.ALLOWED, "fp32", 0.0)
    command = ["--weights", tiny_weights, "--engine", "torch", "--out", tmp_path / "a" / "tiny.pt2"]
    with pytest.raises(UserError, match=r"the maps differ from PyTorch's by 0\.0.* nothing was written"):
        export.main([*map(str, command), "--images", str(root / "data/samples/cat.jpg")])
    assert list((tmp_path / "a").iterdir()) == []


def test_onnx_files_of_other_versions(make, tmp_path):
    need(*NEEDED["onnxruntime"])
    import onnx

    model = onnx.load(make("onnxruntime"))
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(EngineError, match=r"newer\.onnx: ONNX Runtime .* cannot read it .* export it again") as caught:
        open_exported(tmp_path / "newer.onnx")
    assert "\n" not in str(caught.value)
    model = onnx.load(make("onnxruntime"))
    record = json.loads(model.metadata_props[0].value)
    onnx.helper.set_model_props(model, {"auto_msfnet": json.dumps(record | {"format": "auto-msfnet-map/9"})})
    onnx.save(model, tmp_path / "format.onnx")
    with pytest.raises(EngineError, match="format is 'auto-msfnet-map/9', expected 'auto-msfnet-map/1'"):
        open_exported(tmp_path / "format.onnx")
    onnx.helper.set_model_props(model, {})
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(EngineError, match="was not written by export.py"):
        open_exported(tmp_path / "foreign.onnx")


def test_files_that_cannot_be_opened(make, tmp_path):
    whole = make("torch").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match=r"cut\.pt2: PyTorch .* cannot read it") as caught:
        open_exported(tmp_path / "cut.pt2")
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="no such file. Write it with export.py"):
        open_exported(tmp_path / "none.onnx")
    with pytest.raises(EngineError, match="its suffix must be one of .onnx, .xml, .pt2"):
        open_exported(Path("photo.jpg"))


@pytest.mark.parametrize(
    ("arguments", "packages", "message"),
    [
        (["--engine", "torch", "--precision", "int8"], (), "--precision int8: a file for torch has fp32"),
        (["--engine", "onnxruntime", "--precision", "bf16"], ("onnx", "onnxscript", "onnxruntime"),
         "--precision bf16: a file for onnxruntime has fp32, int8"),
        (["--engine", "openvino", "--precision", "int8"], ("openvino",), "calibrated on images. Give some of yours"),
        (["--engine", "torch", "--bias-correction", "once"], (), "--bias-correction: only int8 has one, not fp32"),
        (["--engine", "torch", "--out", "{tmp}/a.onnx"], (), r"a\.onnx: a file for torch ends in \.pt2"),
        (["--engine", "torch", "--out", "{tmp}/file/a.pt2"], (), "cannot be written"),
        (["--engine", "torch", "--images", "{tmp}/none"], (), "no such file or folder"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_met(tiny_weights, tmp_path, arguments, packages, message):
    need(*packages)
    (tmp_path / "file").touch()
    out = [] if "--out" in arguments else ["--out", f"{tmp_path}/x{'.pt2' if 'torch' in arguments else '.xml'}"]
    with pytest.raises(UserError, match=message):
        export.main(["--weights", str(tiny_weights), *out, *(part.format(tmp=tmp_path) for part in arguments)])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_that_is_not_installed(engine, monkeypatch):
    def absent(name: str):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr("inference.engines.base.importlib.import_module", absent)
    with pytest.raises(EngineError, match=f"--engine {engine}: needs the package .*requirements-deploy.txt"):
        export.main(["--engine", engine])


def test_the_weights_are_not_overwritten(tiny_weights, tmp_path):
    """A link to the weights at the place of the file, and of OpenVINO's second file."""
    for name, engine in (("a.pt2", "torch"), ("a.bin", "openvino")):
        (tmp_path / name).symlink_to(tiny_weights)
        out = (tmp_path / name).with_suffix(export.SUFFIXES[engine])
        need(*NEEDED[engine])
        with pytest.raises(UserError, match="the output is the input"):
            export.main(["--weights", str(tiny_weights), "--engine", engine, "--out", str(out)])


def test_the_help_imports_no_pytorch(root):
    code = "import sys, export\ntry: export.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "--calibration" in done.stdout
    assert not [name for name in ("torch", "timm", "matplotlib") if f"'{name}'" in modules]
