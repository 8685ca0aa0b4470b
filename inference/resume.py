"""Going on with a run that was stopped: which maps are whole already, and whether they were made in the same way."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.tasks import Task
from utils.errors import UserError

_START = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_SAME = ("weights", "size", "engine", "precision", "calibration", "flip")


class ResumeError(UserError):
    """Maps that can't be gone on with."""


def check_same_run(out: Path, conditions: Mapping[str, Any]) -> None:
    """Makes sure that the maps in a folder are those that this run would make.

    Args:
        out: the output folder of the earlier run, with its `results.json`; one without maps passes.
        conditions: what this run writes into `results.json`.

    Raises:
        ResumeError: naming what differs, with both values.
    """
    record = out / "results.json"
    if not (out / "maps").is_dir():
        return
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ResumeError(
            f"--resume: {out} holds maps, but no readable results.json tells how they were made. "
            f"Leave out --resume, or choose another --out."
        ) from None
    for key in _SAME:
        if before.get(key) != conditions.get(key):
            raise ResumeError(
                f"--resume: the maps in {out} were made with {key} {_short(before.get(key))}, this run has "
                f"{_short(conditions.get(key))}. Give the same settings, leave out --resume, or choose another --out."
            )


def unfinished(tasks: Sequence[Task], out: Path, kinds: Sequence[str]) -> list[Task]:
    """The tasks of which an output is missing or not whole; `kinds` are the folders that they are written to."""
    return [task for task in tasks if not all(is_whole_png(task.output(out, kind)) for kind in kinds)]


def remove_outputs(tasks: Sequence[Task], out: Path, kinds: Sequence[str]) -> None:
    """Removes what an earlier run wrote for these tasks, so that a later `--resume` can't take it for this run's."""
    for task in tasks:
        for kind in kinds:
            task.output(out, kind).unlink(missing_ok=True)


def is_whole_png(path: Path) -> bool:
    """Whether a PNG is there from its first byte to its last: it is written front to back."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_START))
            file.seek(-len(_END), 2)
            return head == _START and file.read() == _END
    except OSError:
        return False


def _short(value: object) -> object:
    """A file's name and the start of its checksum, of what a record says about weights."""
    return f"{value['file']} ({value['sha256'][:12]})" if isinstance(value, dict) else value
