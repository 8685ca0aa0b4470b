"""Guards of the file system: no output falls on an input, and an output folder has one run at a time."""

import errno
import os
import platform
import sys
from collections.abc import Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from utils.errors import UserError


class PathError(UserError):
    """An output that would harm an input, or an output folder that cannot be used."""


def refuse_overlaps(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Makes sure that no output is, contains or lies inside an input. Call it before anything is written.

    Links are followed, and existing files and folders are compared by device and inode, so that hard links,
    bind mounts and file systems that ignore case are recognised.

    Args:
        inputs: every file that the run reads and every folder that it searches; missing ones are ignored.
        outputs: every file and folder that the run creates, replaces or removes; they need not exist. Give the folder
            `OUT/maps` rather than `OUT` where other files in `OUT` are kept.

    Raises:
        PathError: naming the output and the input.
    """
    places = _Places()
    read, written = ({places.identity(path): path for path in paths} for paths in (inputs, outputs))
    for identity, path in written.items():
        if identity in read:
            raise PathError(f"{path}: the output is the input {read[identity]}, which would be lost. {_CURE}")
        for folder in places.parents(path):
            if folder in read:
                raise PathError(f"{path}: the output lies inside the input folder {read[folder]}. {_CURE}")
    for path in read.values():
        for folder in places.parents(path):
            if folder in written:
                raise PathError(f"{path}: the input lies inside the output folder {written[folder]}. {_CURE}")


_CURE = "Choose another output."


class _Places:
    """The identity of paths, each folder looked up once: (device, inode), or the resolved path of what is missing."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[Hashable, ...]] = {}

    def identity(self, path: Path) -> Hashable:
        """Equal for two paths of one file or folder."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return os.path.realpath(path)
        return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)

    def parents(self, path: Path) -> tuple[Hashable, ...]:
        """The identities of all folders above a path, after its links are followed."""
        real = Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114 (a name that is too long is no error)
        key = os.fspath(real.parent)
        if key not in self._folders:
            folder = Path(os.path.realpath(real.parent))
            self._folders[key] = tuple(self.identity(place) for place in (folder, *folder.parents))
        return self._folders[key]


def claim(out: Path, file: bool = False) -> IO[str]:
    """Locks an output for this process, until the returned file is closed or the process ends in whatever way.

    Args:
        out: the output folder, which is made; its lock is `out/.lock`.
        file: whether `out` is a file; its folder is made, and the lock is beside it.

    Returns:
        The lock; keep it as long as the run writes.

    Raises:
        PathError: the folder cannot be made or written, or another run has the lock.
    """
    path = out.with_name(f".{out.name}.lock") if file else out / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PathError(f"{out}: cannot be written ({error.strerror}). Choose another --out.") from None
    try:
        _lock(lock)
    except OSError as error:
        lock.seek(0)
        holder = lock.read(200).strip() or "unknown"
        lock.close()
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise PathError(f"{out}: another run ({holder}) writes here. Stop it, or choose another --out.") from None
        raise PathError(f"{out}: its file system has no locks ({error.strerror}). Choose another --out.") from None
    if not _is_at(lock, path):  # a run that ended has just removed it
        lock.close()
        return claim(out, file)
    try:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
    except OSError as error:
        raise PathError(f"{out}: cannot be written ({error.strerror}). Choose another --out.") from None
    return lock


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def release(lock: IO[str] | None) -> None:
    """Ends a lock of `claim` and removes its file; without one it does nothing."""
    if lock is not None:
        with suppress(OSError):  # Windows removes no open file; the next run then reuses it
            Path(lock.name).unlink()
        lock.close()


def _lock(file: IO[str]) -> None:
    """An exclusive lock that the system releases when the process ends.

    POSIX locks, unlike flock, are not inherited by worker processes, which may outlive a killed run for seconds.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 30)  # a byte behind the text: a locked byte cannot be read by the refused process
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
