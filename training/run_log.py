"""The log of a run: TensorBoard for looking, JSON lines for reading back."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from evaluation.measures import renamed
from utils.errors import UserError
from utils.files import replace_text

LINES = "log.jsonl"


class LogError(UserError):
    """A log that can't be written or read."""


class RunLog:
    """Writes scalars and images of a run into its folder.

    Its state is the number of lines: a run that resumes drops what was logged after its checkpoint, since that will be
    computed and logged again.

    Args:
        folder: `folder/tensorboard` gets event files, `folder/log.jsonl` a line an entry; None writes nothing, for
            processes other than the first.

    Raises:
        LogError: if a file of the log can't be written, at any of the calls.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._board: SummaryWriter | None = None
        self._kept: int | None = None
        self._count = 0

    def open(self, step: int = 0) -> None:
        """Opens both files, without damaged lines; call it once, after the run's state is restored.

        Args:
            step: of the run; entries of later steps are dropped, and of those at it what came after the checkpoint.
        """
        if self._folder is None:
            return
        self._path = self._folder / LINES
        if self._path.is_file():
            entries, damaged = _parse(self._path)
            kept = [record for record in entries[: self._kept] if record["step"] <= step]
            self._count = len(kept)
            replace_text(self._path, "".join(_line(record) for record in kept))
        else:
            damaged = 0
        lost = (self._kept or 0) - self._count
        if damaged or lost > 0:
            what = f"damaged lines left out: {damaged}" if damaged else f"missing entries: {lost}"
            print(f"notice: {self._path}: {what}. The training itself is not affected.")
        with _at(self._folder / "tensorboard"):
            self._board = SummaryWriter(self._folder / "tensorboard", purge_step=step + 1)
        with _at(self._path):
            self._lines = self._path.open("a", encoding="utf-8")

    def state_dict(self) -> dict[str, Any]:
        """Number of entries in `log.jsonl`."""
        return {"entries": self._count}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """The number of entries that `open` will keep; None where it was not saved."""
        self._kept = state_dict["entries"]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs named numbers of one step; one that is not finite becomes null in `log.jsonl`."""
        if self._board is None:
            return
        with _at(self._path.with_name("tensorboard")):
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        with _at(self._path):
            self._lines.write(_line({"step": step, "time": round(time.time(), 1), **values}))
            self._lines.flush()
        self._count += 1

    def images(self, step: int, name: str, images: Tensor) -> None:
        """Logs images: (B, 3 or 1, H, W) in [0, 1]."""
        if self._board is not None:
            with _at(self._path.with_name("tensorboard")):
                self._board.add_images(name, images, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        if self._board is not None:
            with _at(self._path):
                self._board.close()
                self._lines.close()


def _line(record: Mapping[str, Any]) -> str:
    """An entry as a line of JSON, which has no infinity and no NaN."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }  # fmt: skip
    return json.dumps(finite, allow_nan=False) + "\n"


@contextmanager
def _at(path: Path) -> Iterator[None]:
    """Inside, an error of the system is a `LogError` that names the path."""
    try:
        yield
    except OSError as error:
        raise LogError(f"{path}: can't be written ({error.strerror}). Free space there, then resume.") from None


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Entries of a run's `log.jsonl`, each with `step`, `time` and its numbers, None for one that was not finite.

    A line that is no entry, such as the last one of a killed run, is dropped.

    Raises:
        LogError: there is no log, or it can't be read.
    """
    return _parse(folder / LINES)[0]


def _parse(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a log, and how many of its lines are none; see `read_log`."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise LogError(f"{path}: no such log. Give the folder that train.py wrote (--out).") from None
    except OSError as error:
        raise LogError(f"{path}: can't be read ({error.strerror}).") from None
    entries = [entry for entry in map(_entry, lines) if entry is not None]
    return entries, len(lines) - len(entries)


def _entry(line: str) -> dict[str, Any] | None:
    """One entry; None if the line holds none. An earlier version wrote `Infinity` and `NaN`."""
    try:
        record = json.loads(line, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    record = renamed(record)
    numbers = (value for name, value in record.items() if name not in ("step", "time"))
    return record if all(value is None or isinstance(value, int | float) for value in numbers) else None
