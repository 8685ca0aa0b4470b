"""OpenVINO and ONNX Runtime: the maps of PyTorch. Each test needs what requirements-deploy.txt installs."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from data.image_io import read_image
from data.layouts import find_pairs
from data.masks import read_mask
from data.transforms import prepare_image
from evaluation.metrics import score_pair
from inference.engines import conversion, machine, onnx_engine, openvino_engine
from inference.engines.base import EngineError
from inference.engines.choice import build_engine
from inference.engines.onnx_engine import OnnxEngine
from inference.folding.tracing import trace
from inference.predictor import Predictor
from inference.saliency import to_8bit
from inference.weights import load_network
from net.context import build_context

SIDE = 256  # of the shipped network here; each engine converts it once for all tests
PACKAGES = {"openvino": ("openvino",), "onnxruntime": ("onnx", "onnxscript", "onnxruntime")}


@pytest.fixture(scope="module")
def loaded(tiny_weights):
    return load_network(tiny_weights)


@pytest.fixture(scope="module")
def images(root):
    paths = sorted((root / "data" / "samples").glob("*.jpg"))[:3]
    return torch.stack([prepare_image(read_image(path), 64) for path in paths])


@pytest.fixture(params=["openvino", "onnxruntime"])
def name(request):
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"needs {package} (requirements-deploy.txt)")
    return request.param


def test_float32_maps_are_those_of_pytorch(name, loaded, images):
    engine = build_engine(loaded, name, "fp32", streams=2)
    with torch.inference_mode():
        exact = loaded.network(images).p1.sigmoid()
    assert (engine.name, engine.precision, engine.streams) == (name, "fp32", 2)
    assert (engine(images).sigmoid() - exact).abs().max() < 1e-4
    # Channels last, as images are prepared, and from two threads at once.
    batches = [images.contiguous(memory_format=torch.channels_last)[i : i + 1] for i in (0, 1, 2, 0)]
    with ThreadPoolExecutor(2) as threads:
        together = torch.cat(list(threads.map(engine, batches)))
    assert (together[:3].sigmoid() - exact).abs().max() < 1e-4
    assert torch.equal(together[0], together[3])


@pytest.mark.parametrize(("threads", "bound"), [(1, False), (4, True)])
def test_threads_are_bound_to_cores_by_a_process_that_has_all_cores_only(loaded, threads, bound, monkeypatch):
    """OpenVINO: two processes of torchrun with a thread each would share the first core of two."""
    pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(openvino_engine, "usable_cores", lambda: 4)
    path = conversion.model_file(openvino_engine.FORMAT, loaded, 64)
    compiled = openvino_engine.compile_model(path, 64, "fp32")
    assert compiled.get_property("ENABLE_CPU_PINNING") is bound


def test_a_network_with_many_weights_runs_batches_as_a_whole(loaded, images, monkeypatch):
    """OpenVINO: maps do not depend on whether an image is in a whole batch or in the rest."""
    pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    monkeypatch.setattr(openvino_engine, "_HEAVY", 0)
    monkeypatch.setattr(openvino_engine, "_TOGETHER", 2)
    engine = build_engine(loaded, "openvino", "fp32", streams=2)
    assert engine.batch == 2 and build_engine(loaded, "openvino", "fp32", streams=1).batch == 1
    with torch.inference_mode():
        exact = loaded.network(images).p1.sigmoid()
    found = engine(images).sigmoid()
    assert found.shape == (3, 1, 64, 64) and (found - exact).abs().max() < 1e-4
    torch.testing.assert_close(engine(images[2:]), engine(images)[2:], rtol=0, atol=0)
    torch.testing.assert_close(engine(images.flip(0))[0], engine(images)[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gate", "attention"])
def test_a_block_on_e5_computes_what_pytorch_does(name, kind, tmp_path):
    """On 2 x 2 positions there are as many as heads, which hides a wrong order of dimensions."""
    own = {"openvino": openvino_engine, "onnxruntime": onnx_engine}[name].FORMAT
    torch.manual_seed(0)
    block, x = build_context(kind, 16).eval().requires_grad_(False), torch.randn(2, 16, 2, 2)
    for parameter in block.parameters():
        parameter.normal_()
    model = own.export(trace(block), {"x": x}, {"x": {0: torch.export.Dim.DYNAMIC}})
    own.save(model, tmp_path / own.files[0])
    if name == "onnxruntime":
        (found,) = onnx_engine.open_session(tmp_path / own.files[0]).run(None, {"x": x.numpy()})
    else:
        core = openvino_engine.require("openvino", "a test").Core()
        model = core.read_model(tmp_path / own.files[0])
        model.reshape(list(x.shape))
        found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x.numpy()])[0]
    torch.testing.assert_close(torch.from_numpy(found.copy()), block(x), rtol=1e-4, atol=1e-4)


def test_a_second_start_reads_what_the_first_converted(name, loaded, monkeypatch):
    build_engine(loaded, name, "fp32")

    def convert(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr("torch.export.export", convert)
    monkeypatch.setattr("torch.onnx.export", convert)
    build_engine(loaded, name, "fp32", streams=2)


def test_a_damaged_engine_file_is_made_again(name, loaded, images, monkeypatch, tmp_path, capsys):
    exact = build_engine(loaded, name, "fp32")(images)
    own = {"openvino": openvino_engine, "onnxruntime": onnx_engine}[name].FORMAT
    whole = conversion.model_file(own, loaded, 64).parent
    shutil.copytree(whole, tmp_path / whole.name)
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path))
    for kept in (path for path in tmp_path.rglob("model.*") if path.suffix != ".xml"):
        kept.write_bytes(kept.read_bytes()[:-1000])
    assert torch.equal(build_engine(loaded, name, "fp32")(images), exact)
    assert "is damaged; it is made again" in capsys.readouterr().err


def test_every_stream_of_onnx_runtime_has_its_threads(loaded, monkeypatch):
    """A session has one pool for all callers: 8 callers with 2 threads each need 8 more threads, and a caller's own."""
    for package in PACKAGES["onnxruntime"]:
        pytest.importorskip(package, reason=f"needs {package} (requirements-deploy.txt)")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    for streams, threads in ((1, 16), (8, 9), (16, 1)):
        engine = OnnxEngine(loaded, 64, "fp32", streams)
        assert engine._session.get_session_options().intra_op_num_threads == threads


def test_int8_without_images(name, loaded):
    with pytest.raises(EngineError, match="--precision int8: int8 is calibrated on images, and there are none"):
        build_engine(loaded, name, "int8")


@pytest.fixture(scope="module")
def typical(root):
    """Images to calibrate on: real ones where there are any, else the samples. The tests share what is made of them."""
    folder = root.parent / "shared/datasets/DUTS-TR/DUTS-TR-Image"
    found = sorted(folder.iterdir())[::450] if folder.is_dir() else sorted((root / "data/samples").glob("*.jpg"))
    return [prepare_image(read_image(path), SIDE) for path in found]


def test_int8_stays_near(root, typical):
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package} (requirements-deploy.txt)")
    shipped = load_network("lite")  # noise instead of training would not survive 8 bits
    samples = [prepare_image(read_image(path), SIDE) for path in sorted((root / "data/samples").glob("*.jpg"))]
    engine = build_engine(shipped, "openvino", "int8", size=SIDE, calibration=typical)
    with torch.inference_mode():
        exact = shipped.network(torch.stack(samples)).p1.sigmoid()
    difference = (engine(torch.stack(samples)).sigmoid() - exact).abs()
    assert engine.precision == "int8" and 0 < difference.mean() < 0.02


def test_precisions_that_are_not_there(loaded):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime (requirements-deploy.txt)")
    for precision in ("bf16", "fp16"):
        with pytest.raises(EngineError, match=f"--precision {precision}: ONNX Runtime does not compute in it"):
            build_engine(loaded, "onnxruntime", precision)


def test_openvino_bf16_where_the_processor_has_it_not(loaded):
    openvino = pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    there = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lacking = [p for p, name in (("bf16", "BF16"), ("fp16", "FP16")) if name not in there]
    if not lacking:
        pytest.skip("this processor has bf16 and fp16")
    with pytest.raises(
        EngineError, match=f"--precision {lacking[0]}: OpenVINO does not support it on this processor. Use"
    ):
        build_engine(loaded, "openvino", lacking[0])


@pytest.fixture(scope="module")
def photos(shared):
    return find_pairs(shared / "datasets/ECSSD-250")[::4]


def scores_of(photos, engine, precision, calibration=()):
    """MAE and max F of the shipped network."""
    predictor = Predictor.from_loaded(load_network("lite"), torch.device("cpu"), precision, SIDE, engine, calibration)
    scored = [score_pair(to_8bit(predictor(pair.image)), read_mask(pair.mask)) for pair in photos]
    curve = sum(one.curves[2] for one in scored) / len(scored)  # F by threshold
    return sum(one.row.measures["mae"] for one in scored) / len(scored), max(curve)


@pytest.fixture(scope="module")
def exact(photos):
    mae, best = scores_of(photos, "torch", "fp32")
    assert mae < 0.06 and best > 0.85
    return mae, best


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"], indirect=True)
def test_int8_scores_of_the_shipped_network(name, shared, photos, exact):
    """Max F and MAE on real photos move little; calibrated on other ones."""
    pytest.importorskip("nncf", reason="needs nncf (requirements-deploy.txt)")
    others = sorted((shared / "datasets/DUTS-TR/DUTS-TR-Image").iterdir())[::450]
    mae, best = scores_of(photos, name, "int8", others)
    most = 0.005 if machine.saturates() else 0.003  # weights of 7 bits round more coarsely
    assert 0 < abs(mae - exact[0]) < most and abs(best - exact[1]) < most


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_scores_of_the_shipped_network(engine, photos, exact):
    if engine == "openvino":
        openvino = pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor has no bfloat16 units")
    elif not any(torch.cpu.get_capabilities().get(unit) for unit in ("avx512_bf16", "amx_bf16")):
        pytest.skip("this processor has no bfloat16 units")
    mae, _ = scores_of(photos, engine, "bf16")
    assert 0 < abs(mae - exact[0]) < 0.001
