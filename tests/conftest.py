"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from inference.weights import save_weights
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from tests.scored import write_bench

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is slow, not wrong: no example fails for the time that it took.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this test run for converted networks, so that no test reads what an earlier version wrote."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTO_MSFNET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small untrained network with seeded weights, made for pictures of 64 pixels."""
    torch.manual_seed(0)
    config = NetworkConfig("efficientnet_lite0", "resnet50", 16)
    network = build_network(config)
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=0.01)  # else most logits lie where the sigmoid is flat
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
