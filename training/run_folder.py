"""The folder of a run belongs to one run at a time."""

import errno
import fcntl
import os
import platform
from pathlib import Path
from typing import IO

from utils.errors import UserError


class RunFolderError(UserError):
    """A run's folder that can't be used."""


def claim(folder: Path) -> IO[str]:
    """Makes the folder and locks it for this process, until that ends in whatever way.

    A run that was killed in the middle of a save leaves the half-written file behind; it is removed here.

    Returns:
        The lock; keep it as long as the run writes.

    Raises:
        RunFolderError: the folder can't be made or written, or another run has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{folder}: can't be written ({error.strerror}). Give another --out.") from None
    try:
        # A POSIX lock: unlike flock it is not handed on to the processes that read the data, which may live on for a
        # few seconds when the run is killed.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            message = f"another run ({holder}) writes here. Stop it, or give another --out."
        else:
            message = f"its file system has no locks ({error.strerror}). Give an --out on another one."
        raise RunFolderError(f"{folder}: {message}") from None
    try:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
        for part in folder.glob(".*.part.*"):
            part.unlink()
    except OSError as error:
        raise RunFolderError(f"{folder}: can't be written ({error.strerror}). Give another --out.") from None
    return lock
