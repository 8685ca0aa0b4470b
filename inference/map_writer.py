"""From pictures to files: the maps of many pictures and, where wanted, overlays and cut-outs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.image_io import Pixels, read_image, write_png
from inference.compositing import cut_out, overlay
from inference.pipeline import Failure, Stages, run
from inference.predictor import Predictor
from inference.saliency import restore, to_8bit
from inference.tasks import Task

Logits = NDArray[np.float32]

MOST_STREAMS = 8  # more calls side by side fill the memory, not the cores

DRAWN: dict[str, Callable[[Pixels, Pixels], Pixels]] = {"overlay": overlay, "cutout": cut_out}
"""What can be drawn of a picture and its map, by the name of its folder."""


def streams_for(pictures: int, batch: int) -> int:
    """How many threads should call the network: one a core, if there are batches for them all."""
    return max(1, min(torch.get_num_threads(), MOST_STREAMS, -(-pictures // batch)))


def even_batch(pictures: int, most: int, streams: int) -> int:
    """Pictures a call so that all streams have equally many calls: a long last one would leave the others idle."""
    calls = max(1, -(-pictures // (most * streams)))  # of each stream
    return max(1, -(-pictures // (calls * streams)))


class Loaded(NamedTuple):
    """A picture on its way: what the network takes, the size to come back to, and the pixels if they are drawn on."""

    prepared: Tensor
    size: tuple[int, int]
    image: Pixels | None


@dataclass(frozen=True)
class MapMaker:
    """Writes the maps of pictures below a folder.

    Args:
        predictor: what computes them.
        out: maps go to `out/maps`, overlays to `out/overlay`, cut-outs to `out/cutout`.
        drawn: which of `DRAWN` to write beside the maps.
        batch: most pictures that the network takes at once; see `even_batch`.
        workers: threads that read, and as many that write.
    """

    predictor: Predictor
    out: Path
    drawn: Sequence[str] = ()
    batch: int = 8
    workers: int = 2

    def make(self, tasks: Sequence[Task], settled: Callable[[], object] = lambda: None) -> list[Failure[Task]]:
        """Writes the outputs of all tasks; gives back those that could not be read or written.

        Args:
            tasks: the pictures.
            settled: called once a picture, for a progress bar.
        """
        stages = Stages(self._read, self._network, self._write)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # pictures go side by side; OpenCV's own threads would take the network's cores
        try:
            streams = self.predictor.engine.streams
            return run(tasks, stages, even_batch(len(tasks), self.batch, streams), self.workers, streams, settled)
        finally:
            cv2.setNumThreads(threads)

    def _read(self, task: Task) -> Loaded:
        image = read_image(task.image)
        height, width = image.shape[:2]
        return Loaded(self.predictor.prepare(image), (height, width), image if self.drawn else None)

    def _network(self, batch: Sequence[Loaded]) -> Sequence[Logits]:
        return list(self.predictor.logits([loaded.prepared for loaded in batch]))

    def _write(self, task: Task, loaded: Loaded, logits: Logits) -> None:
        saliency = to_8bit(restore(logits, loaded.size))
        write_png(task.output(self.out, "maps"), saliency)
        if loaded.image is not None:
            for kind in self.drawn:
                write_png(task.output(self.out, kind), DRAWN[kind](loaded.image, saliency))
