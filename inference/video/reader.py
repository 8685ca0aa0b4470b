"""Frames of a video file or a camera, each with its time; damaged ones are left out and counted."""

import math
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from inference.video.clock import Clock
from inference.video.colour import UNSPECIFIED, Look, Pixels, decode
from inference.video.errors import VideoError, reason

RATE = Fraction(25)  # frames a second where the source states none
_LOCAL = {"protocol_whitelist": "file"}  # a playlist must not make us read from the network
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of VP8 and VP9 drop alpha


class Frame(NamedTuple):
    """One frame: (H, W, 3) RGB, its alpha (H, W) if it has one, and the seconds at which it is shown."""

    pixels: Pixels
    alpha: Pixels | None
    seconds: float


class Clip:
    """An open video file or camera.

    Args:
        source: path of a file, or the number of a camera.

    Attributes:
        camera: whether it is one.
        look: size, aspect and colours of its frames, upright.
        rate: usual number of frames a second.
        start: time stamp of the file at which its timeline begins, in seconds; sound begins there too.
        found: frames that were read so far.

    Raises:
        VideoError: it cannot be opened, or holds no frame.
    """

    def __init__(self, source: str) -> None:
        self.source, self.camera = source, source.isdecimal()
        if not self.camera and not Path(source).is_file():
            raise VideoError(f"{source}: no such video file; a camera is given by its number, such as 0.")
        self._input: _Camera | _File = _Camera(source) if self.camera else _File(source)
        self.rate, self.start, self.found = self._input.rate, self._input.start, 0
        self._clock = Clock(float(1 / self.rate), self._input.end)
        self._first = self._read()
        if self._first is None:
            self._input.close()
            raise VideoError(f"{source}: no {'camera image' if self.camera else 'frame'} could be read. {_CURE}")
        self.look = self._input.look

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its frames, upright."""
        return self.look.size

    @property
    def length(self) -> int | None:
        """About how many frames it has; None if that is not known."""
        return self._input.length

    @property
    def end(self) -> float | None:
        """Seconds at which its last frame ends by the header; None for a camera. Call it after the last frame."""
        return self._input.reached

    @property
    def damage(self) -> str | None:
        """What of the file could not be read, in a few words; None if all could. Ask when the frames have ended."""
        return self._input.damage

    def frames(self) -> Iterator[Frame]:
        """All frames that are shown, in order."""
        frame = self._first
        while frame is not None:
            yield frame
            frame = self._read()

    def close(self) -> None:
        """Closes file or camera."""
        self._input.close()

    def _read(self) -> Frame | None:
        while (read := self._input.read()) is not None:
            self.found += 1
            pixels, alpha, stamp = read
            seconds = self._clock.at(stamp)
            if seconds is not None:
                return Frame(pixels, alpha, seconds)
        return None


_CURE = "Give a video that FFmpeg reads."
_Read = tuple[Pixels, Pixels | None, float | None]


class _Camera:
    """A camera, read by OpenCV."""

    start, end, length, damage, reached = 0.0, None, None, None, None

    def __init__(self, number: str) -> None:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        self._capture = cv2.VideoCapture(int(number))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else RATE
        self.look = Look((0, 0), matrix=UNSPECIFIED)
        self._begin: float | None = None

    def read(self) -> _Read | None:
        """The next frame, with the seconds since the first."""
        whole, pixels = self._capture.read()
        if not whole:
            return None
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        self.look = Look((pixels.shape[0], pixels.shape[1]), matrix=UNSPECIFIED)
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), None, now - self._begin

    def close(self) -> None:
        """Releases the camera."""
        self._capture.release()


class _File:
    """A video file, read by PyAV."""

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._container = open_file(source)
            self._stream = _video_stream(self._container, source)
        except FFmpegError as error:
            raise VideoError(f"{source}: no video that FFmpeg can read ({reason(error)}). {_CURE}") from None
        self._stream.thread_type = "AUTO"
        self._decoder = _decoder(self._stream)
        self.start = start_of(self._container)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = rate if rate is not None and 1 <= rate <= 240 else RATE
        self.end = None if self._container.duration is None else self._container.duration / av.time_base
        self.holes = self.packets = 0
        self._reached, self._begun = -math.inf, math.inf  # time stamps of the packets, in seconds
        self._fault: str | None = None
        self._look: Look | None = None
        self._order: int | None = None  # ticks from a stamp of an AVI to the one by which its frames are ordered
        self._decoded = self._frames()

    @property
    def look(self) -> Look:
        """The look of the first frame."""
        assert self._look is not None
        return self._look

    @property
    def reached(self) -> float | None:
        """See `Clip.end`."""
        return self._reached - self.start if math.isfinite(self._reached) else None

    @property
    def length(self) -> int | None:
        """Frames by the file's count, or by its length."""
        told = self._told()
        return self._stream.frames or (None if told is None else round(told * self.rate))

    @property
    def damage(self) -> str | None:
        """See `Clip.damage`."""
        told, counted = self._told(), float(self._stream.frames / self.rate)
        # The length in an FLV counts from zero, not from its first frame.
        begun = 0.0 if self._container.format.name == "flv" else self.start
        found = max(0.0, self._reached - self._begun)
        reached = max(found, self._reached - begun)
        # Files estimate their length: two frames or one in a hundred do not count.
        short = told is not None and told - reached > max(2 / float(self.rate), 0.01 * told)
        missing = self._stream.frames - self.packets
        fewer = missing > max(2, 0.01 * self._stream.frames) and counted - reached > 1.5 / float(self.rate)
        edited = "mp4" in self._container.format.name  # an edit list may hide frames that are counted
        words: list[str] = []
        if self._fault is not None:
            words.append(self._fault)
        elif (short or not edited) and (fewer or (short and not self._stream.frames)):
            # The length of a damaged file is a guess by its size.
            words.append(f"ends after {found:.1f} of {max(told or 0.0, counted):.1f} s")
        if self.holes:
            words.append(f"{self.holes} frames in between could not be read")
        return ", ".join(words) or None

    def read(self) -> _Read | None:
        """The next frame that is whole, with its time stamp."""
        frame = next(self._decoded, None)
        if frame is None:
            return None
        if self._look is None:
            self._look = Look.of(frame, self._stream.sample_aspect_ratio)
        pixels, alpha = decode(frame)
        if pixels.shape[:2] != self._look.size:
            size = self._look.size[::-1]
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
            alpha = None if alpha is None else cv2.resize(alpha, size).astype(np.uint8, copy=False)
        ticks = self._stamp(frame)
        return pixels, alpha, None if ticks is None else float(ticks * self._stream.time_base) - self.start

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _stamp(self, frame: av.VideoFrame) -> int | None:
        """When a frame is shown, in ticks; None if that is unknown.

        An AVI has one stamp a packet, in the order of decoding. B-frames would go back in time by it.
        """
        if self._container.format.name != "avi":
            return frame.pts
        if self._order is None and frame.pts is not None and frame.dts is not None:
            self._order = frame.pts - frame.dts
        return None if frame.dts is None or self._order is None else frame.dts + self._order

    def _frames(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                # An empty packet says that nothing changed. To the decoder it would be the end of the film.
                if packet.size:
                    self._count(packet)
                    yield from self._decoded_from(packet)
        except FFmpegError as error:
            self._fault = f"cannot be read to its end ({reason(error)})"
        yield from self._decoded_from(None)

    def _decoded_from(self, packet: av.Packet | None) -> Iterator[Any]:
        """The frames that are whole after a packet; None ends the film."""
        try:
            yield from self._decoder.decode(packet)
        except FFmpegError:
            self.holes += 1

    def _count(self, packet: av.Packet) -> None:
        self.packets += 1
        if packet.pts is not None and packet.time_base is not None:
            stamp = float(packet.pts * packet.time_base)
            length = float((packet.duration or 0) * packet.time_base) or float(1 / self.rate)
            self._begun, self._reached = min(self._begun, stamp), max(self._reached, stamp + length)

    def _told(self) -> float | None:
        """Seconds of the video stream by the file's header; longer sound does not count."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        told = {key.upper(): value for key, value in self._stream.metadata.items()}.get("DURATION", "")
        try:
            hours, minutes, seconds = told.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        except ValueError:
            return self.end


def open_file(source: str) -> Any:
    """Opens a file for reading, whatever characters its name has.

    Raises:
        FFmpegError: FFmpeg cannot read it.
    """
    return av.open(f"file:{Path(source).absolute()}", options=_LOCAL, metadata_errors="replace")


def start_of(container: Any) -> float:
    """Time stamp at which the earliest stream of a file begins, in seconds."""
    return 0.0 if container.start_time is None else container.start_time / av.time_base


def _video_stream(container: Any, source: str) -> Any:
    """The first video stream that is no cover image."""
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        container.close()
        raise VideoError(f"{source}: holds no video stream. {_CURE}")
    return streams[0]


def _decoder(stream: Any) -> Any:
    """The decoder of a stream; for VP8 and VP9 with alpha, one that keeps it."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    decoder.extradata = stream.codec_context.extradata
    return decoder
