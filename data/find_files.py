"""Image files below a folder, and everything there that could not be searched or is not supported."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.image_files import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES


@dataclass(frozen=True)
class SearchProblem:
    """A file or folder that was left out.

    Attributes:
        path: of the file or folder.
        reason: why, such as "broken link".
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class FoundFiles:
    """The result of a search.

    Attributes:
        files: image files, sorted.
        problems: what was left out although it may hold images, sorted by path.
    """

    files: list[Path] = field(default_factory=list)
    problems: list[SearchProblem] = field(default_factory=list)


def search(folder: Path) -> FoundFiles:
    """Searches a folder and all folders below it for files with the suffix of an image.

    Hidden files and files of other kinds are ignored. Links to folders are followed; a folder that is reached twice is
    searched once.
    """
    found = FoundFiles()
    _search(folder, found, set())
    found.files.sort()
    found.problems.sort(key=lambda problem: problem.path)
    return found


def _search(folder: Path, found: FoundFiles, visited: set[tuple[int, int]]) -> None:
    for path, status in _entries(folder, found, visited):
        if stat.S_ISDIR(status.st_mode):
            if not path.name.startswith("."):
                _search(path, found, visited)
        elif path.name.startswith(".") or not stat.S_ISREG(status.st_mode):
            continue
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.files.append(path)
        elif path.suffix.lower() in UNSUPPORTED_SUFFIXES:
            cure = " (`pip install pillow-heif`)" if path.suffix.lower() in (".heic", ".heif", ".hif") else ""
            found.problems.append(SearchProblem(path, f"{path.suffix.lower()[1:]} files are not supported{cure}"))


def _entries(folder: Path, found: FoundFiles, visited: set[tuple[int, int]]) -> Iterator[tuple[Path, os.stat_result]]:
    """What a folder holds, each with the status of what it is or links to."""
    try:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in visited:
            return
        visited.add((here.st_dev, here.st_ino))
        paths = sorted(folder.iterdir())
    except OSError as error:
        found.problems.append(SearchProblem(folder, f"folder cannot be read ({error.strerror or error})"))
        return
    for path in paths:
        try:
            yield path, path.stat()
        except OSError as error:
            reason = "broken link" if path.is_symlink() else f"cannot be read ({error.strerror or error})"
            found.problems.append(SearchProblem(path, reason))
