"""Overlay and cut-out of a video, frame by frame: decoding, network, drawing and encoding overlap.

reader thread  ->  prepare  ->  network, a batch at a time  ->  draw, side by side  ->  encode, in order
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from inference.compositing import Pixels, cut_out, on_background, overlay
from inference.pipeline import Stages, in_background, run
from inference.predictor import Predictor
from inference.saliency import Saliency, restore, to_8bit
from inference.video.reader import Clip, Frame, VideoError
from inference.video.writer import GREEN, Target, VideoWriter, add_sound, has_ffmpeg


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Args:
        files: what was written.
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
) -> VideoResult:
    """Writes the overlay or the cut-out of a clip, or both. Ctrl-C ends the files; what was done is kept.

    Args:
        predictor: what computes the maps.
        clip: is closed at the end.
        stem: path of the files without `_overlay.mp4` or `_cutout.mov`.
        kinds: `overlay`, `cutout`.
        batch: frames that the network takes at once.
        workers: threads that prepare, and as many that draw.
        settled: called once a frame, for a progress bar.

    Raises:
        VideoError: a file cannot be written.
    """
    targets = [Target.of(stem, kind) for kind in kinds]
    for target in targets:
        if target.path.resolve() == Path(clip.source).resolve():
            raise VideoError(f"{target.path}: is the video that is read. Choose another --out.")
    stopped = False
    with ExitStack() as stack:
        stack.callback(clip.close)
        encoder = _Encoder(predictor, clip, kinds, targets, stack)
        frames = stack.enter_context(closing(in_background(clip.frames(), batch)))
        try:
            failures = run(enumerate(frames), encoder.stages(), batch, workers, predictor.engine.streams, settled)
        except KeyboardInterrupt:
            failures, stopped = [], True
        if failures:
            raise VideoError(failures[0].reason)
    problems = [*_lost(clip, stopped), *_sound(clip, targets, encoder.written)]
    return VideoResult(tuple(target.path for target in targets), clip.found, encoder.written, tuple(problems))


class _Loaded(NamedTuple):
    prepared: Tensor
    frame: Frame


class _Encoder:
    """The stages of a video: frames are drawn side by side, and handed to the files in their order."""

    def __init__(
        self, predictor: Predictor, clip: Clip, kinds: Sequence[str], targets: Sequence[Target], stack: ExitStack
    ) -> None:
        self.predictor = predictor
        self.draw = [_draw(kind, target.alpha) for kind, target in zip(kinds, targets, strict=True)]
        self.writers: list[VideoWriter] = []
        for target in targets:
            self.writers.append(target.open(clip.size, clip.rate))
            stack.callback(self.writers[-1].close)
        self.written = 0
        self._next = 0
        self._turns = threading.Condition()
        self._broken: Exception | None = None

    def stages(self) -> Stages[tuple[int, Frame], _Loaded, Saliency]:
        """What `inference.pipeline.run` does with the numbered frames."""
        return Stages(self._prepare, self._network, self._write)

    def _prepare(self, item: tuple[int, Frame]) -> _Loaded:
        return _Loaded(self.predictor.prepare(item[1].pixels), item[1])

    def _network(self, batch: Sequence[_Loaded]) -> Sequence[Saliency]:
        if self._broken is not None:
            raise self._broken  # a file that cannot be written: further frames would be for nothing
        return list(self.predictor.logits([loaded.prepared for loaded in batch]))

    def _write(self, item: tuple[int, Frame], loaded: _Loaded, logits: Saliency) -> None:
        pictures: list[Pixels] = []
        try:
            pixels = loaded.frame.pixels
            saliency = to_8bit(restore(logits, (pixels.shape[0], pixels.shape[1])))
            pictures = [draw(pixels, saliency) for draw in self.draw]
        finally:
            with self._turn(item[0]):  # also after a fault, else those behind would wait for ever
                self._append(pictures, loaded.frame.copies)

    def _append(self, pictures: Sequence[Pixels], copies: int) -> None:
        try:
            for writer, picture in zip(self.writers, pictures, strict=bool(pictures)):
                for _ in range(copies):
                    writer.write(picture)
        except VideoError as error:
            self._broken = error
            raise
        self.written += copies

    @contextmanager
    def _turn(self, place: int) -> Iterator[None]:
        """Waits until all frames before this one are written."""
        with self._turns:
            self._turns.wait_for(lambda: self._next == place)
            try:
                yield
            finally:
                self._next += 1
                self._turns.notify_all()


def _draw(kind: str, alpha: bool) -> Callable[[Pixels, Pixels], Pixels]:
    if kind == "overlay":
        return overlay
    return cut_out if alpha else lambda image, saliency: on_background(image, saliency, GREEN)


def _lost(clip: Clip, stopped: bool) -> list[str]:
    """What of a file was not done; a camera ends when it is stopped."""
    if stopped and not clip.camera:
        return [f"{clip.source}: stopped; what was done is kept."]
    if stopped or clip.damage is None:
        return []
    return [f"{clip.source}: damaged or cut: {clip.damage}. What was good is kept."]


def _sound(clip: Clip, targets: Sequence[Target], frames: int) -> list[str]:
    """Adds the sound of a file to every video; gives back what went wrong."""
    problems: list[str] = []
    for target in targets if has_ffmpeg() and not clip.camera else ():
        try:
            add_sound(target.path, Path(clip.source), frames / clip.rate)
        except VideoError as error:
            problems.append(str(error))
    return problems
