"""Going on where a run stopped, to the bit: two checkpoints, random states, and the settings that may not change.

A run's folder holds `last.pt` and the one before it, `previous.pt`. A save writes beside, syncs, and renames twice, so
at any moment one of the two is whole; the newest whole one wins.
"""

import math
import random
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from utils.errors import UserError

LAST, PREVIOUS, BROKEN = "last.pt", "previous.pt", "last.broken.pt"


class StateError(UserError):
    """A run that can't go on from what its folder holds."""


@dataclass
class Progress:
    """Where a run stands: the next batch to train on, the best validation so far and its epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch. Samples have seeds of their own, see data.datasets."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """State of every generator of this process, as tensors and plain values. Workers have none, see data.datasets."""
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Puts back what `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def save_newest(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes `last.pt`, whole or not at all; the one that stood there becomes `previous.pt`.

    Raises:
        WriteError: if it can't be written; both files are then as they were.
    """
    save_checkpoint(folder / LAST, state, keep=folder / PREVIOUS)


def load_newest(folder: Path, say: Callable[[str], object] = print) -> tuple[dict[str, Any], Path] | None:
    """The newest whole checkpoint of a folder and its path; None if the folder has none.

    Args:
        folder: of the run.
        say: gets a line for a broken one, which is passed over and kept as `last.broken.pt`.

    Raises:
        CheckpointError: if there are checkpoints and none is whole.
        StateError: if one can't be read.
    """
    errors: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            _check_sums(path)
            state = load_checkpoint(path)
            if errors:  # moved out of the way of the next save, which would put it in the whole one's place
                with suppress(FileNotFoundError):  # another process of the run was first
                    (folder / LAST).replace(folder / BROKEN)
            return state, path
        except CheckpointError as error:
            errors.append(str(error))
            say(f"{path} is broken and passed over")
    if errors:
        raise CheckpointError(f"{errors[0]} No older one is whole either; give another --out to start anew.")
    return None


ADDED: dict[str, Any] = {"data.mask_values": "auto", "data.cache": False}
"""Settings that runs of earlier releases lack, with the values that they had in effect."""


def check_same(before: Any, now: Any, free: frozenset[str] = frozenset(), key: str = "") -> None:
    """Refuses to go on with settings that matter and have changed.

    Args:
        before: plain values of the run that is gone on with, nested in dictionaries.
        now: those of this call.
        free: dotted keys that may change, since they have no effect on the weights.
        key: of these values, for the message.

    Raises:
        StateError: naming the key and both values.
    """
    if key in free:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            dotted = f"{key}.{name}" if key else name
            check_same(before.get(name, ADDED.get(dotted)), now.get(name, ADDED.get(dotted)), free, dotted)
    elif before != now:
        raise StateError(
            f"{key}: the run in --out was started with {before}, now it is {now}. Give the same value to go on, or "
            f"another --out to start anew."
        )


def _check_sums(path: Path) -> None:
    """Compares every record with its CRC-32, which torch.load does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path}: truncated or no checkpoint ({error}).") from None
    except OSError as error:
        raise StateError(
            f"{path}: can't be read ({error.strerror}). Make it readable, or give another --out."
        ) from None
    if broken:
        raise CheckpointError(f"{path}: '{broken}' in it does not have its checksum.")
