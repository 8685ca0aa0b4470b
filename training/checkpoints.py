"""The two checkpoints of a run's folder, `last.pt` and the one before it, `previous.pt`.

A save writes beside, syncs, and renames twice, so at any moment one of the two is whole; the newest whole one is
loaded.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from utils.errors import UserError

LAST, PREVIOUS, BROKEN = "last.pt", "previous.pt", "last.broken.pt"


class StateError(UserError):
    """A run that cannot resume from what its folder holds."""


def save_newest(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes `last.pt`, whole or not at all; the earlier one becomes `previous.pt`.

    Raises:
        WriteError: if it can't be written; both files are then as they were.
    """
    save_checkpoint(folder / LAST, state, keep=folder / PREVIOUS)


def rehearse(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a path beside `path` and removes what it wrote, so that a later write to `path` succeeds.

    Raises:
        UserError: that of `write`, naming `path`; or `path` is a folder.
    """
    if path.is_dir():
        raise StateError(f"{path}: is a folder, and a run writes a file there. Move it, or give another --out.")
    trial = path.with_name(f".{path.stem}.trial.{os.getpid()}.part{path.suffix}")
    try:
        write(trial)
    except UserError as error:
        raise type(error)(str(error).replace(str(trial), str(path))) from None
    finally:
        with suppress(OSError):  # where the folder is a file, there is nothing to remove
            trial.unlink()


def load_newest(folder: Path, say: Callable[[str], object] = print) -> tuple[dict[str, Any], Path] | None:
    """The newest whole checkpoint of a folder, on the CPU, and its path; None if the folder has none.

    Args:
        folder: of the run.
        say: called with one line for a broken one, which is skipped and kept as `last.broken.pt`.

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
            say(f"{path} is broken and skipped")
    if errors:
        raise CheckpointError(f"{errors[0]} No older one is whole either; give another --out to start anew.")
    return None


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
