"""Files written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from utils.errors import UserError


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes `content` beside `path` and renames it into place; missing folders are made.

    Raises:
        UserError: the file cannot be written there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # where a file stands in the folder's place, there is nothing to clear away
            part.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error


def replace_text(path: Path, content: str) -> None:
    """`replace_bytes` of UTF-8 text."""
    replace_bytes(path, content.encode("utf-8"))
