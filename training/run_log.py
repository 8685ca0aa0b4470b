"""What a run says of itself: TensorBoard for looking, JSON lines for reading back."""

import json
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
    """Writes scalars and pictures of a run into its folder.

    Args:
        folder: `folder/tensorboard` gets event files, `folder/log.jsonl` a line an entry; None writes nothing, for
            processes that leave it to the first one.
        step: where a resumed run goes on; what either holds beyond it is dropped, since it will come again.

    Raises:
        LogError: if a file of the log can't be written, at any of the calls.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._board, self._lines = None, None
        if folder is None:
            return
        self._path = folder / LINES
        if self._path.is_file():
            kept = [record for record in read_log(folder) if record["step"] <= step]
            replace_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        with _told(folder / "tensorboard"):
            self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        with _told(self._path):
            self._lines = self._path.open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs named numbers of one step."""
        if self._board is None:
            return
        with _told(self._path.with_name("tensorboard")):
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        self._line({"step": step, "time": round(time.time(), 1), **values})

    def pictures(self, step: int, name: str, images: Tensor) -> None:
        """Logs pictures: (B, 3 or 1, H, W) in [0, 1]."""
        if self._board is not None:
            with _told(self._path.with_name("tensorboard")):
                self._board.add_images(name, images, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        for file in (self._board, self._lines):
            if file is not None:
                with _told(self._path):
                    file.close()

    def _line(self, record: Mapping[str, Any]) -> None:
        assert self._lines is not None
        with _told(self._path):
            self._lines.write(json.dumps(record) + "\n")
            self._lines.flush()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Inside, an error of the system is one of the log at this place."""
    try:
        yield
    except OSError as error:
        raise LogError(f"{path}: can't be written ({error.strerror}). Free space there, then go on.") from None


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Entries of a run's `log.jsonl`, each with `step`, `time` and its numbers.

    A last line that a killed run left half-written is dropped.

    Raises:
        LogError: there is no log.
    """
    path = folder / LINES
    if not path.is_file():
        raise LogError(f"{path}: no such log. Give the folder that train.py wrote (--out).")
    entries: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(renamed(json.loads(line)))
        except json.JSONDecodeError:
            continue
    return entries
