"""What a run says of itself: TensorBoard for looking, JSON lines for reading back."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter


class RunLog:
    """Writes scalars and pictures of a run into its folder.

    Args:
        folder: `folder/tensorboard` gets event files, `folder/log.jsonl` a line an entry.
        step: where a resumed run goes on; what TensorBoard holds beyond it is dropped.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step)
        self._lines = (folder / "log.jsonl").open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs named numbers of one step."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self.line({"step": step, **values})

    def line(self, record: Mapping[str, Any]) -> None:
        """Appends one JSON line with the time added."""
        self._lines.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")
        self._lines.flush()

    def pictures(self, step: int, name: str, images: Tensor) -> None:
        """Logs pictures: (B, 3 or 1, H, W) in [0, 1]."""
        self._board.add_images(name, images, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        self._board.close()
        self._lines.close()
