"""Converted networks and measured choices, kept between runs.

The folder is ~/.cache/auto-msfnet, or $XDG_CACHE_HOME/auto-msfnet, or $AUTO_MSFNET_CACHE. An entry is a folder of files
with their checksums; a record is one JSON file. Names contain a hash of all that the content depends on. Anything here
may be deleted at any time. Damaged entries and records are made again, with a notice.
"""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import net
from inference.engines.base import notice
from utils.errors import UserError
from utils.files import replace_text

LIMIT = 4 << 30
"""Bytes that the cache may hold; the entries that were not used for the longest time are removed."""

_IN_USE = 3600.0  # seconds since its last use for which nothing is removed: another process may be reading it
_MANIFEST = "checksums.json"
_SOURCES = (Path(net.__file__).parent, Path(__file__).parent, Path(__file__).parents[1] / "folding")


def folder() -> Path:
    """The folder of the cache."""
    chosen = os.environ.get("AUTO_MSFNET_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auto-msfnet"


def key(*parts: object) -> str:
    """A name for the result that the present version of the networks and engines makes of these parts."""
    total = hashlib.sha256(repr(parts).encode())
    for source in (path for folder in _SOURCES for path in sorted(folder.glob("*.py"))):
        total.update(source.read_bytes())
    return total.hexdigest()[:24]


def digest(arrays: Iterable[bytes]) -> str:
    """A short hash of some data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array)
    return total.hexdigest()[:24]


def cached(name: str, make: Callable[[Path], None], files: Sequence[str]) -> Path:
    """The folder of an entry; made if it is missing or damaged.

    Two processes may make the same entry at once: the first to finish wins. If the cache is not writable, the folder is
    temporary and is removed at the end of the process.

    Args:
        name: of the entry.
        make: fills an empty folder.
        files: names of the files that `make` writes.
    """
    kept = folder() / name
    if _whole(kept, files):
        with suppress(OSError):
            os.utime(kept / _MANIFEST)
        return kept
    if kept.exists():
        notice(f"{kept}: is damaged; it is made again.")
    fresh = _fresh(name)
    try:
        make(fresh)
        sums = {file: _checksum(fresh / file) for file in files}
        (fresh / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if fresh.parent != folder():
        return fresh
    placed = _place(fresh, kept, files)
    prune()
    return placed


def record(name: str) -> dict[str, Any] | None:
    """What was stored under a name; None if there is nothing, or nothing that can be read."""
    path = folder() / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        notice(f"{path}: is damaged; it is made again.")
        return None
    if not isinstance(found, dict):
        notice(f"{path}: is damaged; it is made again.")
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def store(name: str, content: dict[str, Any]) -> None:
    """Stores a record, if the cache is writable."""
    with suppress(OSError, UserError):
        replace_text(folder() / f"{name}.json", json.dumps(content))


def prune(limit: int | None = None) -> None:
    """Removes the entries that were used longest ago, until the cache holds at most `limit` bytes."""
    limit = LIMIT if limit is None else limit
    entries: list[tuple[float, int, Path]] = []
    with suppress(OSError):
        for path in folder().iterdir():
            with suppress(OSError):
                used = (path / _MANIFEST if (path / _MANIFEST).is_file() else path).stat().st_mtime
                entries.append((used, _size(path), path))
    held, now = sum(size for _, size, _ in entries), time.time()
    for used, size, path in sorted(entries):
        abandoned = path.name.startswith(".") and now - used > 24 * _IN_USE
        if now - used > _IN_USE and (abandoned or held > limit):
            held -= size
            _remove(path)


def _whole(kept: Path, files: Sequence[str]) -> bool:
    """Whether an entry has its files, with the content that they were written with."""
    try:
        sums = json.loads((kept / _MANIFEST).read_text(encoding="utf-8"))
        return all(sums.get(file) == _checksum(kept / file) for file in files)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fresh(name: str) -> Path:
    """An empty folder in the cache, or a temporary one that is removed at the end of the process."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder()))
    except OSError:
        fresh = Path(tempfile.mkdtemp(prefix="auto-msfnet."))
        atexit.register(shutil.rmtree, fresh, ignore_errors=True)
        return fresh


def _place(fresh: Path, kept: Path, files: Sequence[str]) -> Path:
    """Renames a new entry into its place, unless another process has placed a whole one there since."""
    for _ in range(3):
        try:
            fresh.rename(kept)
            return kept
        except OSError:
            if _whole(kept, files):
                shutil.rmtree(fresh, ignore_errors=True)
                return kept
            _remove(kept)
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)  # used from where it is
    return fresh


def _remove(path: Path) -> None:
    """Removes a file or folder; a folder is renamed first, so that no other process sees a part of it."""
    if not path.is_dir():
        with suppress(OSError):
            path.unlink()
        return
    aside = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.{time.monotonic_ns()}")
    with suppress(OSError):
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in path.rglob("*")) if path.is_dir() else path.stat().st_size
