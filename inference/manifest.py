"""What each map in an output folder was made from; decides which maps `--resume` keeps.

`OUT/manifest.jsonl` holds one JSON object a line: first the conditions of the run (weights, settings, engine), then one
line for each image whose outputs are written. Lines are appended while the run goes, and a line that a killed run left
incomplete is ignored. An image is recognised by its place below its root and by its content, so that the input may be
moved or copied.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from inference.tasks import KINDS, Outputs, Task
from utils.errors import UserError
from utils.files import replace_text

FORMAT = "auto-msfnet-manifest/1"
NAME = "manifest.jsonl"

_START = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class ManifestError(UserError):
    """Outputs of an earlier run that cannot be removed or recorded."""


@dataclass(frozen=True)
class Identity:
    """What identifies the content of an input file.

    Attributes:
        bytes: its size.
        times: of its last change and of the last change of its inode, in nanoseconds.
        sha256: of its content.
    """

    bytes: int
    times: tuple[int, int]
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Identity":
        """The identity of a file; raises OSError if it cannot be read."""
        status = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(status.st_size, (status.st_mtime_ns, status.st_ctime_ns), digest)

    def has_same_times(self, path: Path) -> bool:
        """Whether size and times are still those of the file, so that its content is; false if it cannot be read."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, (status.st_mtime_ns, status.st_ctime_ns)) == (self.bytes, self.times)

    def matches(self, path: Path) -> bool:
        """Whether a file has this content; it is only read where its size or its times differ."""
        if self.has_same_times(path):
            return True
        with suppress(OSError):
            return path.stat().st_size == self.bytes and Identity.of(path).sha256 == self.sha256
        return False


@dataclass(frozen=True)
class Entry:
    """One image whose outputs are written.

    Attributes:
        name: of its outputs, see `Task`.
        source: its place below its root.
        input: its content.
        sizes: bytes of each output, by kind.
    """

    name: str
    source: str
    input: Identity
    sizes: Mapping[str, int]

    @classmethod
    def read(cls, line: str) -> "Entry | None":
        """The entry of a line; None if it is incomplete or damaged."""
        try:
            record = json.loads(line)
            changed, inode = record["times"]
            identity = Identity(int(record["bytes"]), (int(changed), int(inode)), str(record["sha256"]))
            sizes = {kind: int(size) for kind, size in record["sizes"].items()}
            name = PurePosixPath(record["name"])
            if name.is_absolute() or ".." in name.parts:
                return None
            return cls(str(name), str(record["source"]), identity, sizes)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def line(self) -> str:
        """One line of JSON."""
        identity = {"bytes": self.input.bytes, "times": self.input.times, "sha256": self.input.sha256}
        return json.dumps({"name": self.name, "source": self.source, **identity, "sizes": self.sizes}) + "\n"

    def holds(self, task: Task, outputs: Outputs) -> bool:
        """Whether the outputs of a task are those of this entry, whole, and made from the present content."""
        return (
            self.source == task.source
            and all(self._is_written(outputs.path(task, kind), kind) for kind in outputs.kinds)
            and self.input.matches(task.image)
        )

    def _is_written(self, path: Path, kind: str) -> bool:
        with suppress(OSError):
            whole = path.suffix != ".png" or is_whole_png(path)
            return whole and path.stat().st_size == self.sizes.get(kind)
        return False


class Manifest:
    """The record of an output folder.

    Args:
        folder: the output folder.
        conditions: all that the maps depend on beside the images; plain data.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self._path = folder / NAME
        self._header = json.dumps({"format": FORMAT, "conditions": conditions}, sort_keys=True) + "\n"
        self.entries: dict[str, Entry] = {}
        self.changed: tuple[str, ...] = ()
        self._read()

    def _read(self) -> None:
        """Reads the entries of an earlier run; those made under other conditions count only for `stale`."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        except OSError:
            return
        entries = [Entry.read(line) for line in lines[1:]]
        self.entries = {entry.name: entry for entry in entries if entry is not None}
        if lines and lines[0] != self._header:
            self.changed = _differences(lines[0], self._header)

    def kept(self, tasks: Iterable[Task], outputs: Outputs) -> set[str]:
        """Names of the tasks whose outputs this run would make again just so."""
        if self.changed:
            return set()
        return {
            task.name for task in tasks if task.name in self.entries and self.entries[task.name].holds(task, outputs)
        }

    def stale(self, tasks: Iterable[Task]) -> list[Task]:
        """Earlier outputs of the same images under other names, such as `a` of `a.jpg` that is now `a.jpg`."""
        names = {task.name: task for task in tasks}
        sources = {task.source: task for task in names.values()}
        return [
            Task(entry.name, sources[entry.source].image, entry.source)
            for entry in self.entries.values()
            if entry.name not in names and entry.source in sources
        ]

    def begin(self, tasks: Iterable[Task], kept: set[str]) -> None:
        """Writes the conditions and the entries that stay: those kept, and those of images that are not in this run.

        Args:
            tasks: the images of this run.
            kept: names of the tasks whose outputs stay.
        """
        tasks = list(tasks)
        dropped = {task.name for task in (*tasks, *self.stale(tasks))} - kept
        stay = [] if self.changed else [each for name, each in self.entries.items() if name not in dropped]
        replace_text(self._path, self._header + "".join(entry.line() for entry in stay))


def record(file: IO[str], task: Task, identity: Identity, outputs: Outputs) -> None:
    """Appends the entry of an image whose outputs are written; one write, so that processes may share the file."""
    sizes = {kind: outputs.path(task, kind).stat().st_size for kind in outputs.kinds}
    file.write(Entry(task.name, task.source, identity, sizes).line())
    file.flush()


def remove_outputs(tasks: Sequence[Task], outputs: Outputs) -> None:
    """Removes what an earlier run wrote for these tasks, of all kinds.

    Raises:
        ManifestError: a file cannot be removed, or is a folder.
    """
    for path in (outputs.path(task, kind) for task in tasks for kind in KINDS):
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            pass
        except OSError as error:
            reason = "is a folder" if path.is_dir() else f"cannot be replaced ({error.strerror})"
            raise ManifestError(f"{path}: {reason}; an output goes there. Choose another --out.") from None


def is_whole_png(path: Path) -> bool:
    """Whether a PNG has its first and its last bytes; it is written from front to back."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_START))
            file.seek(-len(_END), 2)
            return head == _START and file.read() == _END
    except OSError:
        return False


def _differences(before: str, now: str) -> tuple[str, ...]:
    """The conditions that differ, in words."""
    try:
        old = dict(json.loads(before)["conditions"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ("a manifest that cannot be read",)
    new = json.loads(now)["conditions"]
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return tuple(f"{key} {_short(old.get(key))}, now {_short(new.get(key))}" for key in keys) or ("another format",)


def _short(value: object) -> str:
    """The start of a long value, such as a checksum."""
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
