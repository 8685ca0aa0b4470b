"""Random generators of a process: seeded, read and put back, so that a resumed run draws what it would have drawn."""

import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch. Samples have seeds of their own, see data.datasets."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """State of every generator of this process, as tensors and plain values. Workers have none, see data.datasets.

    Args:
        device: where this process computes; of several GPUs only the state of this one is read.
    """
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restores what `random_state` returned; the GPU's own only on a GPU.

    A run of an earlier version saved the states of all GPUs of its machine; that of the present index is taken.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    saved = state["cuda"]
    if saved and device.type == "cuda":
        torch.cuda.set_rng_state(saved[min(device.index or 0, len(saved) - 1)], device)


def compute_deterministically() -> None:
    """Makes PyTorch take deterministic kernels, so that a run on CUDA repeats to the bit. Slower; call it first.

    Without it the backward pass of bilinear resizing adds in an order that CUDA does not fix.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS, read when it starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
