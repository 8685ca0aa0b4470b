"""The sound of a video file, encoded again beside the new frames, at the times that it had."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as TheEnd
from av.error import FFmpegError, InvalidDataError
from av.filter import Graph

from inference.video.clock import Clock
from inference.video.errors import VideoError, reason
from inference.video.reader import open_file, start_of

_BITS = 192_000
# A file may count its channels without naming them.
_LAYOUTS = {"3 channels": "3.0", "4 channels": "quad", "5 channels": "5.0", "6 channels": "5.1", "8 channels": "7.1"}
_RATE = 48_000  # where the encoder does not support that of the source


class Sound:
    """The first sound track of a file, as an AAC track of another. Gaps become silence.

    Args:
        source: path of the file with sound.
        output: the file that is written; gets a stream, unless there is no sound.

    Attributes:
        exists: whether there is any.

    Raises:
        VideoError: there is sound that cannot be decoded.
    """

    def __init__(self, source: str, output: Any) -> None:
        self._input = open_file(source)
        self.exists = bool(self._input.streams.audio)
        if not self.exists:
            return
        self._source = self._input.streams.audio[0]
        if self._source.codec_context is None:
            raise VideoError(f"{source}: its sound cannot be decoded (unknown codec).")
        self._start = start_of(self._input)
        end = None if self._input.duration is None else self._input.duration / av.time_base
        self._clock = Clock(1024 / (self._source.rate or _RATE), end)
        try:
            frames = self._decoded()
            first = next(frames, None)
            self.exists = first is not None
            if first is None:
                return
            supported = av.Codec("aac", "w").audio_rates or ()
            rate = first.sample_rate if first.sample_rate in supported else _RATE
            layout = _LAYOUTS.get(str(first.layout.name), str(first.layout.name))
            self._stream = output.add_stream("aac", rate=rate, layout=layout)
            self._stream.bit_rate = _BITS
            self._frames = _resampled(chain([first], frames), first, rate, layout)
        except (FFmpegError, ValueError) as error:
            raise VideoError(f"{source}: its sound cannot be decoded ({reason(error)}).") from None
        self._waiting = next(self._frames, None)

    def packets(self, seconds: float, last: bool = False) -> Iterator[Any]:
        """Encoded sound up to a time; with `last`, the track ends there.

        Raises:
            FFmpegError: the sound cannot be decoded or encoded.
        """
        if not self.exists:
            return
        while self._waiting is not None and self._waiting.time < seconds:
            yield from self._stream.encode(self._waiting)
            self._waiting = next(self._frames, None)
        if last:
            yield from self._stream.encode(None)

    def close(self) -> None:
        """Closes the source."""
        self._input.close()

    def _decoded(self) -> Iterator[Any]:
        """Frames of the source whose times increase; packets that are damaged are left out."""
        for packet in self._input.demux(self._source):
            try:
                frames = packet.decode()
            except InvalidDataError:
                continue
            for frame in frames:
                seconds = self._clock.at(None if frame.time is None else frame.time - self._start)
                if seconds is not None:
                    frame.time_base = Fraction(1, frame.sample_rate)
                    frame.pts = round(seconds * frame.sample_rate)
                    yield frame


def _resampled(frames: Iterator[Any], first: Any, rate: int, layout: str) -> Iterator[Any]:
    """Frames without gaps, in the form that the encoder takes."""
    graph = Graph()
    buffer = graph.add_abuffer(
        sample_rate=first.sample_rate,
        format=first.format.name,
        layout=first.layout.name,
        time_base=Fraction(1, first.sample_rate),
    )
    steady = graph.add("aresample", "async=1:min_hard_comp=0.05")
    form = graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}")
    buffer.link_to(steady)
    steady.link_to(form)
    form.link_to(graph.add("abuffersink"))
    graph.configure()
    for frame in chain(frames, [None]):
        graph.push(frame)
        while True:
            try:
                yield graph.pull()
            except (NothingYet, TheEnd):
                break
