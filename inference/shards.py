"""Images in tar shards, in the convention of WebDataset: read as a stream, their outputs written as tar shards.

    --images 'shards-{000..199}.tar' --out OUT      photos/0001.jpg in shards-007.tar becomes
                                                    photos/0001.png in OUT/maps/shards-007.tar

Files of a shard that share their name up to the first dot are one sample, and one of them is its image. A shard is
written beside its place and renamed when its last image is in, so that a shard which is there is whole. `--resume`
keeps whole shards. Batches do not reach over the end of a shard: its outputs are the same in whatever run it is
computed. The shards are divided among the processes of torchrun.
"""

import re
import tarfile
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from braceexpand import braceexpand
from webdataset.tariterators import group_by_keys, tar_file_iterator
from webdataset.writer import TarWriter

from data.image_files import IMAGE_SUFFIXES, Encoded
from inference.cutouts import encode
from inference.manifest import NAME as MANIFEST
from inference.manifest import Identity, record
from inference.map_writer import ImageStages, Loaded, Logits, MapWriter, Output, one_opencv_thread
from inference.pipeline import Failure, Stages, run
from inference.tasks import ImageSet, Outputs, Task
from utils.errors import UserError, one_line
from utils.files import part_of

Files = Mapping[str, tuple[str, bytes]]
"""Outputs of one image by kind: name in the shard and content."""


class ShardError(UserError):
    """A tar shard that cannot be read."""


def shard_set(pattern: Path) -> ImageSet:
    """The shards that a pattern names; each is one task.

    Args:
        pattern: a file, or several with braces: `shards-{000..199}.tar`.

    Raises:
        ShardError: the braces do not pair, a shard is missing, or two share a name.
    """
    try:
        paths = [pattern] if pattern.is_file() else [Path(text) for text in braceexpand(str(pattern))]
    except ValueError:
        raise ShardError(f"{pattern}: the braces do not pair. Write 'shards-{{000..199}}.tar'.") from None
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ShardError(f"{missing[0]}: no such shard; {len(missing)} of {len(paths)} are missing. Check the pattern.")
    names = {path.name: path for path in paths}
    if len(names) < len(paths):
        raise ShardError(f"{pattern}: two shards share a name, but their outputs go to one folder. Rename one of them.")
    tasks = tuple(Task(path.stem, path, path.name) for path in paths)
    return ImageSet(pattern.name, paths[0].parent, tasks, shards=True)


@dataclass(frozen=True)
class ShardsWritten:
    """What became of the shards of a process.

    Attributes:
        done: shards that are written, or kept.
        images: how many images are in those that were written now.
        failures: shards that could not be read, and images; of an image the task is named `SHARD/KEY`.
    """

    done: tuple[Task, ...]
    images: int
    failures: tuple[Failure[Task], ...]


def write_shards(
    writer: MapWriter, tasks: Sequence[Task], kept: Container[str], settled: Callable[[], object] = lambda: None
) -> ShardsWritten:
    """Writes the outputs of every image of some shards.

    Args:
        writer: computes and draws; its outputs have the suffix .tar.
        tasks: the shards, of `shard_set`.
        kept: names of shards whose outputs stay as they are.
        settled: called once for each image, for a progress bar.
    """
    with one_opencv_thread(), (writer.outputs.folder / MANIFEST).open("a", encoding="utf-8") as log:
        reader = _Reader(writer.outputs, [task for task in tasks if task.name not in kept], log)
        try:
            images = ImageStages(writer)
            stages = Stages[_Member, Loaded, Logits](partial(_read, images), images.network, partial(_write, images))
            streams = writer.predictor.engine.streams
            failures = run(reader, stages, writer.batch, writer.workers, streams, settled, lambda member: member.shard)
        finally:
            reader.close()
    failed = [Failure(failure.item.task, failure.reason) for failure in failures]
    written = {shard.task: shard.written for shard in reader.shards if shard.finished}
    done = tuple(task for task in tasks if task.name in kept or task in written)
    return ShardsWritten(done, sum(written.values()), (*reader.failures, *failed))


@dataclass(frozen=True)
class _Member:
    """One image of a shard."""

    shard: "_Shard"
    number: int
    key: str
    image: Encoded

    @property
    def task(self) -> Task:
        name = f"{self.shard.task.name}/{self.key}"
        return Task(name, Path(str(self.image)), name)


class _Shard:
    """The outputs of one shard while they are written: in the order of the images, whatever the order they come in.

    Attributes:
        task: the shard.
        written: how many images are in its outputs.
        finished: whether its outputs are whole and in their place.
    """

    def __init__(self, task: Task, outputs: Outputs, log: IO[str]) -> None:
        self.task, self.written, self.finished = task, 0, False
        self._outputs, self._log = outputs, log
        self._identity = Identity.of(task.image)
        self._parts = {kind: part_of(outputs.path(task, kind)) for kind in outputs.kinds}
        self._files: dict[str, TarWriter] = {}
        self._waiting: dict[int, Files] = {}
        self._next, self._count, self._whole = 0, -1, True
        self._lock = threading.Lock()
        for kind, part in self._parts.items():
            part.parent.mkdir(parents=True, exist_ok=True)
            self._files[kind] = TarWriter(str(part), user="", group="", mtime=0.0, encoder=False)

    def put(self, number: int, files: Files | None) -> None:
        """Takes the outputs of an image; None if it failed.

        Raises:
            ShardError: the outputs cannot be written. The shard is abandoned; what comes later is dropped.
        """
        with self._writing():
            self._waiting[number] = files or {}
            self._whole = self._whole and files is not None
            while self.is_open and self._next in self._waiting:
                self._append(self._waiting.pop(self._next))
            self._finish()

    def end(self, count: int) -> None:
        """States how many images the shard has; raises as `put`."""
        with self._writing():
            self._count = count
            self._finish()

    @property
    def is_open(self) -> bool:
        """Whether outputs are still taken: it is neither finished nor abandoned."""
        return bool(self._files)

    def abandon(self) -> None:
        """Removes what is written so far; without effect on a finished shard."""
        with self._lock:
            self._abandon()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except OSError as error:
                self._abandon()
                place = self._outputs.path(self.task, self._outputs.kinds[0])
                raise ShardError(f"{place}: can't be written ({error.strerror or error}). Free space there.") from error

    def _abandon(self) -> None:
        with suppress(OSError):  # on a full disk the end of an archive cannot be written either
            self._close()
        self._files, self._waiting = {}, {}
        for part in self._parts.values():
            with suppress(OSError):
                part.unlink()

    def _append(self, files: Files) -> None:
        for kind, (name, content) in files.items():
            key, _, suffix = name.rpartition(".")
            self._files[kind].write({"__key__": key, suffix: content})
        self.written += bool(files)
        self._next += 1

    def _finish(self) -> None:
        if self._next != self._count or not self.is_open:
            return
        self._close()
        for kind, part in self._parts.items():
            part.replace(self._outputs.path(self.task, kind))
        self.finished = True
        if self._whole and self._identity.has_same_times(self.task.image):  # else a later --resume makes it again
            record(self._log, self.task, self._identity, self._outputs)

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}


@dataclass
class _Reader:
    """The images of shards, one after the other; a shard that is damaged does not stop the others."""

    outputs: Outputs
    tasks: Sequence[Task]
    log: IO[str]
    shards: list[_Shard] = field(default_factory=list)
    failures: list[Failure[Task]] = field(default_factory=list)

    def __iter__(self) -> Iterator[_Member]:
        for task in self.tasks:
            try:
                shard = _Shard(task, self.outputs, self.log)
            except OSError as error:
                self.failures.append(Failure(task, f"{task.image}: {error.strerror or error}. Check the disk."))
                continue
            self.shards.append(shard)
            number = 0
            try:
                for key, image in _images(task.image):
                    yield _Member(shard, number, key, image)
                    number += 1
                    if not shard.is_open:  # its outputs cannot be written, which an image's failure has told
                        break
                shard.end(number)
            except ShardError as error:
                shard.abandon()
                self.failures.append(Failure(task, str(error)))

    def close(self) -> None:
        """Removes what a run that ended early left half-written."""
        for shard in self.shards:
            shard.abandon()


def _images(path: Path) -> Iterator[tuple[str, Encoded]]:
    """Key and image of every sample of a shard.

    Raises:
        ShardError: it is damaged, holds no image or a file twice, or a name that leads out of a folder.
    """
    found = 0
    with path.open("rb") as file:
        try:
            members = ({**one, "__url__": path.name} for one in tar_file_iterator(file))  # pyright: ignore[reportArgumentType]
            for sample in group_by_keys(members):
                key = str(sample["__key__"])
                suffix = next((name for name in sample if f".{name}" in IMAGE_SUFFIXES), None)
                if suffix is None:
                    continue
                if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
                    raise ShardError(f"{path}: holds {key!r}, which leads out of its folder. Pack the shard again.")
                yield key, Encoded(f"{path}/{key}.{suffix}", sample[suffix])
                found += 1
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            reason = one_line(re.sub(r" @ <.*", "", str(error)))[:100]
            raise ShardError(f"{path}: not read to its end ({reason}). Download or pack it again.") from None
    if not found:
        raise ShardError(f"{path}: holds no image with one of the suffixes {', '.join(sorted(IMAGE_SUFFIXES)[:6])} ...")


def _read(images: ImageStages, member: _Member) -> Loaded:
    try:
        return images.load(member.image)
    except BaseException:
        member.shard.put(member.number, None)
        raise


def _write(images: ImageStages, member: _Member, loaded: Loaded, logits: Logits) -> None:
    files: dict[str, tuple[str, bytes]] | None = None
    try:
        files = {
            output.kind: (f"{member.key}.png", _encoded(output))
            for output in images.outputs(member.image, loaded, logits)
        }
    finally:
        member.shard.put(member.number, files)


def _encoded(output: Output) -> bytes:
    if output.metadata is None:
        return encode(output.pixels)
    return encode(output.pixels, ".png", output.metadata.profile, output.metadata.dpi)
