"""Weights that any program can rebuild from a state dict's keys and shapes, and the authors' outputs for them."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def golden_files(name: str, shared: Path | None) -> tuple[Path, Path]:
    """The maps and the keys of a backbone: our copy for ResNet-50, the shared folder for the other."""
    if name == "resnet50":
        return FIXTURES / "golden_resnet50.npz", FIXTURES / "golden_resnet50_keys.json"
    assert shared is not None
    return shared / "golden" / f"{name}.npz", shared / "golden" / f"{name}_keys.json"


def golden_state(keys: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The state dict of the golden run, in the authors' layout."""
    return {key: _tensor(key, shape) for key, shape in keys.items()}


def golden_input() -> Tensor:
    """The network's input of the golden run, (2, 3, 256, 256)."""
    noise = np.random.RandomState(0).standard_normal((2, 3, 256, 256))
    return torch.from_numpy(noise.astype(np.float32))


def read_keys(path: Path) -> dict[str, list[int]]:
    return json.loads(path.read_text(encoding="utf-8"))


def _tensor(key: str, shape: Sequence[int]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    seed = zlib.crc32(key.replace("feafusion._nodes.", "feafusion.featurefusioncell32._ops.").encode())
    random = np.random.RandomState(seed)
    if key.endswith("running_mean"):
        values = 0.1 * random.standard_normal(shape)
    elif key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        values = 0.5 + random.random_sample(shape)
    elif len(shape) == 1:
        values = 0.1 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))
