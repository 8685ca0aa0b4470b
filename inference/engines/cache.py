"""Converted networks, kept between runs: converting takes seconds, reading takes none.

A folder a network under ~/.cache/auto-msfnet (or $XDG_CACHE_HOME, or $AUTO_MSFNET_CACHE), named by all that its
content depends on. Anything in it may be deleted at any time.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import net

_SOURCES = (Path(net.__file__).parent, Path(__file__).parent, Path(__file__).parents[1] / "folding")


def folder() -> Path:
    """Where converted networks are kept."""
    chosen = os.environ.get("AUTO_MSFNET_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auto-msfnet"


def key(*parts: object) -> str:
    """A name for what is made from these parts by the present version of the networks and engines."""
    digest = hashlib.sha256(repr(parts).encode())
    for source in (path for folder in _SOURCES for path in sorted(folder.glob("*.py"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def digest(arrays: Iterable[bytes]) -> str:
    """A short name for some data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array)
    return total.hexdigest()[:24]


def cached(name: str, make: Callable[[Path], None], files: Sequence[str]) -> Path:
    """The folder of that name; made by calling `make` with an empty folder if it lacks one of these files.

    Two processes may make the same at once: the first to finish wins. Where the cache can't be written, the folder is
    a temporary one.
    """
    kept = folder() / name
    if all((kept / file).is_file() for file in files):
        return kept
    shutil.rmtree(kept, ignore_errors=True)  # somebody deleted a part of it
    try:
        folder().mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder()))
    except OSError:
        fresh = Path(tempfile.mkdtemp(prefix="auto-msfnet."))
        make(fresh)
        return fresh
    try:
        make(fresh)
        fresh.rename(kept)
    except OSError:
        if not kept.is_dir():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return kept
