"""Fixtures that every test may use."""

import importlib.util
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tests.programs import run_of_group
from tests.scored import write_bench

# PyTorch is imported inside of fixtures: the process that leads those of `make test` reads this file too, and waits.
ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)

# A busy machine is slow, not wrong: no example fails for the time that it took.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collectstart() -> None:
    """Loads pysodmetrics as the programs do, without scikit-learn, before a test imports it by itself."""
    importlib.import_module("evaluation.pysod")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process of `make test` begins one while the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Every test draws the same numbers, whichever tests ran before it in its process."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this test run for converted networks, so that no test reads what an earlier version wrote.

    The workers of pytest-xdist share it: none converts again what another has converted.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engines"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTO_MSFNET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small untrained network with seeded weights, made for images of 64 pixels.

    Engines convert it in a third of the time that a network with 31 edges of convolutions takes.
    """
    import torch

    from inference.weights import save_weights
    from net.auto_msfnet import build_network
    from net.settings import NetworkConfig

    torch.manual_seed(0)
    config = NetworkConfig("test_efficientnet", str(ROOT / "tests" / "every_operation.json"), 16)
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1  # its statistics are those of the batch below, as after training
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, network, config, size=64)
    return path


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight generated scenes in `data`, maps of two methods in `good` and `poor`. To be read only."""
    return write_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project; a test that needs it skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder


@pytest.fixture(scope="session")
def script(root: Path) -> ModuleType:
    """test.py as a module; its name is taken by a package of Python itself."""
    spec = importlib.util.spec_from_file_location("test_script", root / "test.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script: ModuleType, tiny_weights: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs test.py on the CPU with the tiny network; `runs/` of the call's own folder is the default output."""

    def call(*arguments: object, out: Path = tmp_path / "out") -> int:
        fixed = ["--weights", tiny_weights, "--device", "cpu", "--engine", "torch", "--precision", "fp32", "--out", out]
        return script.main([str(argument) for argument in (*fixed, *arguments)])

    call.out = tmp_path / "out"
    return call


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a RunGroup are forked from a process that has imported PyTorch; one test of reproduce.py does without."""
    monkeypatch.setattr("training.run_group.subprocess", SimpleNamespace(run=run_of_group))


def make_image(path: Path, height: int = 40, width: int = 50, mode: str = "RGB") -> None:
    """Writes a random image; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = cv2.resize(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (width, height))
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images in a tree of three folders, each in a format of its own."""
    folder = tmp_path / "photos"
    make_image(folder / "a.jpg")
    make_image(folder / "deep/er/b.png", 33, 70)
    make_image(folder / "deep/c.webp", 64, 64)
    return folder
