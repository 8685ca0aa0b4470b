"""From images to files: the saliency maps of many images and, where wanted, overlays and cutouts."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import DataError
from data.image_files import PIXEL_LIMIT, Source, open_image, reading
from data.image_io import ImageMetadata, Pixels, decode_with_metadata, read_image_with_metadata, write_png
from inference.compositing import overlay
from inference.cutouts import Style, write_cutout
from inference.manifest import NAME as MANIFEST
from inference.manifest import Identity, record
from inference.memory import ByteBudget, trim
from inference.pipeline import Failure, Stages, run
from inference.predictor import Predictor, Prepared
from inference.refinement import Refinement
from inference.saliency import restore, to_8bit
from inference.tasks import Outputs, Task

Logits = NDArray[np.float32]

MOST_STREAMS = 8  # more calls side by side fill the memory, not the cores
READING, WRITING, DRAWING = 8, 10, 13  # bytes a pixel while an image is read, its map written, its cutout drawn
KEPT, KEPT_ALONE = 1 << 20, 1 << 24
"""Pixels of the largest image that is kept until it is drawn on: where many wait for the network, and where one does. A
larger one is read again."""
LEAST_BUDGET, BUDGET_OF_A_WORKER = 512 << 20, 128 << 20  # bytes


def streams_for(images: int, batch: int) -> int:
    """How many threads should call the network: one for each core, if there are batches for them all."""
    return max(1, min(torch.get_num_threads(), MOST_STREAMS, -(-images // batch)))


def even_batch(images: int, most: int, streams: int) -> int:
    """Images a call so that all streams have equally many calls: a long last one would leave the others idle."""
    calls = max(1, -(-images // (most * streams)))  # of each stream
    return max(1, -(-images // (calls * streams)))


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Inside, OpenCV uses one thread: images are processed side by side, and more would take the network's cores."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class Loaded(NamedTuple):
    """An image that waits for the network: what the network takes, and what is needed to write its outputs.

    Attributes:
        prepared: see `Predictor.prepare`.
        size: height and width of the map.
        image: the pixels, (H, W, 3), and the metadata, if they are drawn on and few.
        identity: of the file that was read; None if it changed while it was read.
    """

    prepared: Prepared
    size: tuple[int, int]
    image: tuple[Pixels, ImageMetadata] | None
    identity: Identity | None


class Output(NamedTuple):
    """One output of an image: its kind, see `inference.tasks.KINDS`, and its pixels; a cutout has metadata."""

    kind: str
    pixels: Pixels
    metadata: ImageMetadata | None = None


@dataclass(frozen=True)
class MapWriter:
    """Writes the maps of images below a folder.

    Attributes:
        predictor: computes them.
        outputs: where they go, and which kinds are written.
        style: of the cutouts.
        refinement: of the maps.
        batch: most images that the network takes at once; see `even_batch`.
        workers: threads that read, and as many that write.
        max_pixels: see `read_image`.
        records: whether to record what is written in the manifest of the output folder.
    """

    predictor: Predictor
    outputs: Outputs
    style: Style = field(default_factory=Style)
    refinement: Refinement = field(default_factory=Refinement)
    batch: int = 8
    workers: int = 2
    max_pixels: int = PIXEL_LIMIT
    records: bool = False

    def computed(self, tasks: Sequence[Task], kept: Container[str]) -> list[Task]:
        """The tasks that `write` computes: the batches of a run over all tasks, except those that are kept whole.

        The last bits of a logit depend on how many images are computed at once. In its own batch each image gets the
        map of a run that was not stopped.
        """
        size = even_batch(len(tasks), self.batch, self.predictor.engine.streams)
        batches = (tasks[start : start + size] for start in range(0, len(tasks), size))
        return [task for batch in batches if any(task.name not in kept for task in batch) for task in batch]

    def write(
        self,
        tasks: Sequence[Task],
        settled: Callable[[], object] = lambda: None,
        kept: Container[str] = frozenset(),
    ) -> list[Failure[Task]]:
        """Writes the outputs of all tasks; returns those that could not be read or written.

        Args:
            tasks: the images.
            settled: called once for each image that is computed, for a progress bar.
            kept: names of the tasks whose outputs stay as they are; see `computed`.
        """
        streams = self.predictor.engine.streams
        batch = even_batch(len(tasks), self.batch, streams)
        with ExitStack() as stack:
            stack.enter_context(one_opencv_thread())
            path = self.outputs.folder / MANIFEST
            log = stack.enter_context(path.open("a", encoding="utf-8")) if self.records else None
            images = ImageStages(self, KEPT_ALONE if len(tasks) == 1 else KEPT)
            files = _FileStages(images, log, kept)
            steps = Stages(files.read, images.network, files.write)
            failures = run(self.computed(tasks, kept), steps, batch, self.workers, streams, settled)
        return [failure for failure in failures if failure.item.name not in kept]


class ImageStages:
    """The three stages of an image, whatever it is read from and written to, in bounded memory.

    Args:
        writer: says what is computed and drawn.
        kept: pixels of the largest image that is kept until it is drawn on.
    """

    def __init__(self, writer: MapWriter, kept: int = KEPT) -> None:
        self.writer, self._kept = writer, kept
        self._budget = ByteBudget(max(LEAST_BUDGET, writer.workers * BUDGET_OF_A_WORKER))

    def load(self, source: Source) -> Loaded:
        """Decodes and prepares an image."""
        with reading(source):
            opened = open_image(source, self.writer.max_pixels)
            cost = READING * opened.image.size[0] * opened.image.size[1]
        with self._budget.take(cost):
            with reading(source):
                image, metadata = decode_with_metadata(opened)
            del opened
            height, width = image.shape[:2]
            keep = self._drawn and height * width <= self._kept
            prepared = self.writer.predictor.prepare(image)
            return Loaded(prepared, (height, width), (image, metadata) if keep else None, None)

    def network(self, batch: Sequence[Loaded]) -> Sequence[Logits]:
        """Logits of a batch, each (S, S)."""
        return list(self.writer.predictor.logits([loaded.prepared for loaded in batch]))

    def outputs(self, source: Source, loaded: Loaded, logits: Logits) -> Iterator[Output]:
        """What is written of an image, one after the other; the map is the last. Drop each before taking the next.

        Raises:
            DataError: the image is drawn on and has another size than when it was read.
        """
        kinds, refinement = self.writer.outputs.kinds, self.writer.refinement
        cost = (DRAWING if self._drawn else WRITING) * loaded.size[0] * loaded.size[1]
        with self._budget.take(cost):
            saliency = refinement.saliency(to_8bit(restore(refinement.logits(logits), loaded.size)))
            if self._drawn:
                yield from self._draw(source, loaded, saliency)
            if "maps" in kinds:  # last: where a map is, all of an image is
                yield Output("maps", saliency)

    @property
    def _drawn(self) -> list[str]:
        return [kind for kind in self.writer.outputs.kinds if kind != "maps"]

    def _draw(self, source: Source, loaded: Loaded, saliency: Pixels) -> Iterator[Output]:
        for kind in reversed(self._drawn):  # the cutout first, which needs the most memory
            # A large image is read for each kind, since it is freed before the result is encoded.
            image, metadata = self._image(source) if loaded.image is None else loaded.image
            if image.shape[:2] != loaded.size:
                raise DataError(f"{source}: changed while it was read. Run again with --resume.")
            draw = overlay if kind == "overlay" else self.writer.style.compose
            pixels = draw(image, saliency)
            del image
            if loaded.image is None:
                trim()
            yield Output(kind, pixels, metadata if kind == "cutout" else None)
            del pixels
            if loaded.image is None:
                trim()

    def _image(self, source: Source) -> tuple[Pixels, ImageMetadata]:
        return read_image_with_metadata(source, self.writer.max_pixels)


@dataclass(frozen=True)
class _FileStages:
    """The stages of an image that is a file and whose outputs are files."""

    images: ImageStages
    log: IO[str] | None
    kept: Container[str]

    def read(self, task: Task) -> Loaded:
        """Decodes and prepares an image."""
        identity = None if self.log is None else Identity.of(task.image)
        loaded = self.images.load(task.image)
        if identity is not None and not identity.has_same_times(task.image):
            identity = None  # it changed while it was read: a later --resume makes it again
        return loaded._replace(identity=identity)

    def write(self, task: Task, loaded: Loaded, logits: Logits) -> None:
        """Writes the map and what is drawn, unless they are kept."""
        if task.name in self.kept:
            return
        outputs = self.images.writer.outputs
        for output in self.images.outputs(task.image, loaded, logits):
            path = outputs.path(task, output.kind)
            if output.metadata is not None:
                write_cutout(path, output.pixels, output.metadata.profile, output.metadata.dpi)
            elif outputs.file:
                write_cutout(path, output.pixels)
            else:
                write_png(path, output.pixels)
            del output  # freed before the next one is drawn
        if self.log is not None and loaded.identity is not None:
            record(self.log, task, loaded.identity, outputs)
