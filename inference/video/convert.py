"""Overlay and cutout of a video, frame by frame: decoding, network, drawing and encoding overlap.

reader thread  ->  prepare  ->  network, a batch at a time  ->  smooth, in order  ->  draw, side by side
               ->  encode, in order
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inference.compositing import cut_out, overlay
from inference.pipeline import Stages, in_background, run
from inference.predictor import Predictor, Prepared
from inference.refinement import Refinement
from inference.saliency import Saliency, restore, to_8bit
from inference.video.colour import Pixels
from inference.video.errors import VideoError
from inference.video.reader import Clip, Frame
from inference.video.smoothing import Smoother, small_frame
from inference.video.writer import Target, VideoWriter
from utils.paths import refuse_overlaps


@dataclass(frozen=True)
class VideoResult:
    """The result of a video.

    Args:
        files: the written files.
        found: frames that were read.
        written: frames of each file.
        problems: what was not done, a line each; empty if all was.
    """

    files: tuple[Path, ...]
    found: int
    written: int
    problems: tuple[str, ...]


def make_video(
    predictor: Predictor,
    clip: Clip,
    stem: Path,
    kinds: Sequence[str],
    batch: int = 4,
    workers: int = 2,
    settled: Callable[[], object] = lambda: None,
    smooth: bool = False,
    refinement: Refinement | None = None,
) -> VideoResult:
    """Writes the overlay or the cutout of a clip, or both. Ctrl-C ends the files and keeps what was done.

    Args:
        predictor: computes the maps.
        clip: is closed at the end.
        stem: path of the files without `_overlay.mp4` or `_cutout.mov`.
        kinds: `overlay`, `cutout`.
        batch: frames that the network takes at once.
        workers: threads that prepare, and as many that draw.
        settled: called once for each frame, for a progress bar.
        smooth: whether to steady the maps, see `inference.video.smoothing`.
        refinement: changes of the maps after the network.

    Raises:
        VideoError: a file cannot be written; what was there before is still there.
        PathError: a file would replace the video that is read.
    """
    targets = [Target.of(stem, kind) for kind in kinds]
    stopped = False
    with ExitStack() as stack:
        stack.callback(clip.close)
        if not clip.camera:
            refuse_overlaps([Path(clip.source)], [target.path for target in targets])
        writers = _open(clip, targets, stack)
        encoder = _Encoder(predictor, kinds, writers, smooth, refinement or Refinement())
        frames = stack.enter_context(closing(in_background(clip.frames(), batch)))
        try:
            failures = run(enumerate(frames), encoder.stages(), batch, workers, predictor.engine.streams, settled)
        except KeyboardInterrupt:
            failures, stopped = [], True
        if failures:
            raise VideoError(failures[0].reason)
        for writer in writers:
            writer.close(None if stopped else clip.end)
        lost = _lost(clip, stopped)
        stack.pop_all()
        clip.close()
    problems = [*lost, *(problem for writer in writers for problem in writer.problems)]
    return VideoResult(tuple(target.path for target in targets), clip.found, encoder.written, tuple(problems))


def _open(clip: Clip, targets: Sequence[Target], stack: ExitStack) -> list[VideoWriter]:
    """The writers of all files; they are discarded unless the stack is emptied."""
    writers: list[VideoWriter] = []
    for target in targets:
        writers.append(VideoWriter(target, clip.look, clip.rate, None if clip.camera else clip.source))
        stack.callback(writers[-1].discard)
    return writers


class _Loaded(NamedTuple):
    prepared: Prepared
    opaque: Pixels  # (H, W, 3), laid over white where the frame is transparent
    small: Pixels | None  # (S, S) grey, if the maps are smoothed
    frame: Frame


class _Turns:
    """Lets threads through a passage in the order of their places, 0, 1, 2 and so on. A place may be skipped."""

    def __init__(self) -> None:
        self._next, self._done = 0, set[int]()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, place: int) -> Iterator[None]:
        """Waits until all places before this one are done."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == place)
            try:
                yield
            finally:  # after an error too, else those behind would wait for ever
                self._end(place)

    def skip(self, place: int) -> None:
        """Those behind this place do not wait for it."""
        with self._changed:
            self._end(place)

    def _end(self, place: int) -> None:
        self._done.add(place)
        while self._next in self._done:
            self._done.remove(self._next)
            self._next += 1
        self._changed.notify_all()


class _Encoder:
    """The stages of a video: frames are smoothed in their order, drawn side by side and written in their order."""

    def __init__(
        self,
        predictor: Predictor,
        kinds: Sequence[str],
        writers: Sequence[VideoWriter],
        smooth: bool,
        refinement: Refinement,
    ) -> None:
        self.predictor, self.kinds, self.writers, self.refinement = predictor, kinds, writers, refinement
        self.written = 0
        self._smoother = Smoother(predictor.size) if smooth else None
        self._smoothing, self._writing = _Turns(), _Turns()
        self._broken: Exception | None = None

    def stages(self) -> Stages[tuple[int, Frame], _Loaded, Saliency]:
        """The work of `inference.pipeline.run` on the numbered frames."""
        return Stages(self._prepare, self._network, self._write)

    def _prepare(self, item: tuple[int, Frame]) -> _Loaded:
        place, frame = item
        try:
            opaque = frame.pixels if frame.alpha is None else _over_white(frame.pixels, frame.alpha)
            small = None if self._smoother is None else small_frame(opaque, self.predictor.size)
            return _Loaded(self.predictor.prepare(opaque), opaque, small, frame)
        except BaseException:
            self._smoothing.skip(place)
            self._writing.skip(place)
            raise

    def _network(self, batch: Sequence[_Loaded]) -> Sequence[Saliency]:
        if self._broken is not None:
            raise self._broken  # the files cannot be written: more frames are no use
        return list(self.predictor.logits([loaded.prepared for loaded in batch]))

    def _write(self, item: tuple[int, Frame], loaded: _Loaded, logits: Saliency) -> None:
        place, drawn = item[0], list[Pixels]()
        try:
            if self._smoother is not None and loaded.small is not None:
                with self._smoothing.of(place):
                    logits = self._smoother(loaded.small, logits)
            saliency = self._map(loaded, logits)
            drawn = [_draw(kind, loaded, saliency) for kind in self.kinds]
        finally:
            with self._writing.of(place):
                self._append(drawn, loaded.frame.seconds)

    def _map(self, loaded: _Loaded, logits: Saliency) -> Pixels:
        size = loaded.opaque.shape[0], loaded.opaque.shape[1]
        return self.refinement.saliency(to_8bit(restore(self.refinement.logits(logits), size)))

    def _append(self, drawn: Sequence[Pixels], seconds: float) -> None:
        if not drawn:
            return
        try:
            for writer, pixels in zip(self.writers, drawn, strict=True):
                writer.write(pixels, seconds)
        except VideoError as error:
            self._broken = error
            raise
        self.written += 1


def _draw(kind: str, loaded: _Loaded, saliency: Pixels) -> Pixels:
    if kind == "overlay":
        return overlay(loaded.opaque, saliency)
    cutout, alpha = cut_out(loaded.frame.pixels, saliency), loaded.frame.alpha
    if alpha is not None:  # what is transparent in the video stays so
        cutout[..., 3] = _product(cutout[..., 3], alpha)
    return cutout


def _over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    return 255 - _product(255 - pixels, alpha[..., None])


def _product(values: Pixels, alpha: Pixels) -> Pixels:
    """values * alpha / 255, rounded."""
    return ((values.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def _lost(clip: Clip, stopped: bool) -> list[str]:
    """What of a file was not done; a camera ends when it is stopped."""
    if stopped and not clip.camera:
        return [f"{clip.source}: stopped; what was done is kept."]
    if stopped or clip.damage is None:
        return []
    return [f"{clip.source}: damaged or cut: {clip.damage}. What was good is kept."]
