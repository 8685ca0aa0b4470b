"""torch.hub.load from a checkout, in a process that has modules of the same names as ours."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from data.image_io import read_image
from inference.predictor import Predictor

DECOYS = ("utils", "settings", "data", "net", "training", "inference", "evaluation", "nas")
CALLER = """
import json, sys
import numpy, torch
import utils, settings, data, net, training, inference, evaluation, nas
import utils.helper
decoys = {name: sys.modules[name] for name in (*DECOYS, "utils.helper")}
path = list(sys.path)
root, image = sys.argv[1:]
load = lambda name, **settings: torch.hub.load(root, name, source="local", **settings)
predictor = load("predictor", device="cpu", engine="torch", precision="fp32")
network = load("lite")
resnet50 = load("auto_msfnet_resnet50")
try:
    base = type(load("base")).__name__
except Exception as error:
    base = str(error)
logits = network(torch.zeros(1, 3, 256, 256))
from PIL import Image
saliency = predictor(numpy.asarray(Image.open(image).convert("RGB")))
again = predictor(image)
print(json.dumps({
    "kept": all(sys.modules[name] is module for name, module in decoys.items()),
    "answers": [module.WHO for module in decoys.values()],
    "left": sorted(name for name in sys.modules if name.split(".")[0] in DECOYS and name not in decoys),
    "path": sys.path == path,
    "base": base,
    "shape": list(logits.p1.shape), "training": network.training,
    "parameters": sum(p.numel() for p in resnet50.parameters()),
    "same": bool((saliency == again).all()), "mean": float(saliency.mean()),
}))
""".replace("DECOYS", repr(DECOYS))


@pytest.fixture(scope="module")
def answer(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("caller")
    for name in DECOYS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("WHO = 'caller'\n")
    (folder / "utils" / "helper.py").write_text("WHO = 'caller'\n")
    (folder / "caller.py").write_text(CALLER)
    command = [sys.executable, "caller.py", root, root / "data/samples/cat.jpg"]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_modules_of_the_caller_stay_in_place(answer):
    assert answer["kept"] and answer["path"] and answer["left"] == []
    assert set(answer["answers"]) == {"caller"}


def test_entry_points_give_networks_in_eval_mode(answer):
    assert answer["shape"] == [1, 1, 256, 256] and answer["training"] is False
    assert 30e6 < answer["parameters"] < 60e6


def test_base_is_loaded_or_missed_in_one_line(answer, root):
    if (root / "weights/base.safetensors").is_file():
        assert answer["base"] == "AutoMSFNet"
    else:
        assert answer["base"].startswith("weights 'base': neither a shipped model (lite) nor a file.")
        assert "\n" not in answer["base"] and len(answer["base"]) < 300


def test_the_predictor_gives_the_map_of_ours(answer, root):
    expected = Predictor.from_pretrained("lite", "cpu", "fp32", engine="torch")(
        read_image(root / "data/samples/cat.jpg")
    )
    assert answer["same"]
    np.testing.assert_allclose(answer["mean"], expected.mean(), atol=1e-5)


def test_torch_hub_lists_the_entry_points_alone(root):
    spec = importlib.util.spec_from_file_location("hubconf_of_this_project", root / "hubconf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    assert listed == {"lite", "base", "auto_msfnet_resnet50", "auto_msfnet_vgg16", "predictor"}
    assert all(importlib.util.find_spec(name) for name in module.dependencies)
