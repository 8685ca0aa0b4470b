"""Files written whole or not at all: under a temporary name in their folder, then renamed."""

import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from utils.errors import UserError

_LONGEST_STEM = 200  # bytes


class WriteError(UserError):
    """A file that cannot be written where it should be."""


def write_beside(path: Path, write: Callable[[Path], object], durable: bool = False, keep: Path | None = None) -> None:
    """Lets `write` fill a temporary file beside `path` and renames it into place; missing folders are made.

    Args:
        path: the file.
        write: gets the temporary path, which has the suffix of `path`.
        durable: whether the content must be on the disk before the rename, so that a power cut leaves the old file
            or the new one. Slow, so only for checkpoints.
        keep: where to keep the previous file of that path.

    Raises:
        WriteError: if it can't be written; the previous file is still there, or at `keep`.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        if durable:
            _sync(part)
        if keep is not None and path.exists():
            path.replace(keep)
        part.replace(path)
        if durable and os.name == "posix":  # the names too: a folder is a file that can be synced
            _sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or f"the write failed, {_free(path.parent)} MiB are free there"
        with suppress(OSError):  # where a file has the folder's name, there is nothing to remove
            part.unlink()
        raise WriteError(f"{path}: can't be written ({reason}). Free space or choose another folder.") from error


def part_of(path: Path) -> Path:
    """The name beside `path` under which this process prepares it."""
    return path.with_name(f".{_short(path.stem)}.{os.getpid()}.part{path.suffix}")


def remove_parts(folder: Path, below: Iterable[str] = (), stem: str | None = None) -> None:
    """Removes what killed runs left half-written. Call it while the lock of what is written is held.

    Args:
        folder: where; nothing happens if it is missing.
        below: folders in it that are searched in depth, since only runs write there.
        stem: of the only files in it that are this run's; all are by default.

    Raises:
        WriteError: a file cannot be removed.
    """
    name = ".+" if stem is None else re.escape(_short(stem))
    pattern = re.compile(rf"\.{name}\.\d+\.part(\.[^.]+)?")
    try:
        deep = (found for name in below for found in (folder / name).rglob(".*.part*"))
        for part in [*folder.glob(".*.part*"), *deep]:
            if pattern.fullmatch(part.name):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({error.strerror}). Choose another --out.") from None


def _short(stem: str) -> str:
    """A stem short enough that a file system which allows 255 bytes takes the temporary name."""
    name = os.fsencode(stem)
    return stem if len(name) <= _LONGEST_STEM else f"{os.fsdecode(name[:_LONGEST_STEM])}{zlib.crc32(name)}"


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free // 2**20


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_bytes(path: Path, content: bytes | memoryview) -> None:
    """`write_beside` of bytes."""
    write_beside(path, lambda part: part.write_bytes(content))


def replace_text(path: Path, content: str) -> None:
    """`write_beside` of UTF-8 text."""
    replace_bytes(path, content.encode("utf-8"))
