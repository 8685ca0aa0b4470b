"""Frames to video files: H.264 in .mp4, ProRes 4444 with alpha in .mov, both with the sound of the source.

A file is written under another name beside its place and renamed when it is whole. PyAV is used instead of pipes to a
program: it brings its own FFmpeg, it gives every frame and every sound sample its time, and an error is an exception.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from inference.video.colour import Look, Pixels, encode, tag
from inference.video.errors import VideoError, reason
from inference.video.sound import Sound
from utils.files import part_of

_TICK = Fraction(1, 90_000)  # seconds; exact for 24, 25, 30, 50, 60 and 30000/1001 frames a second
# Without B-frames, whose order would hide how long the last frame is shown.
_H264 = ("libx264", "yuv420p", {"preset": "veryfast", "crf": "16", "bf": "0"})
_PRORES = ("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"})


@dataclass(frozen=True)
class Target:
    """A video to be written.

    Args:
        path: the file.
        alpha: whether its frames are RGBA.
    """

    path: Path
    alpha: bool

    @classmethod
    def of(cls, stem: Path, kind: str) -> "Target":
        """`stem_KIND.mov` with alpha for a cutout, `stem_KIND.mp4` for an overlay."""
        alpha = kind == "cutout"
        return cls(stem.with_name(f"{stem.name}_{kind}{'.mov' if alpha else '.mp4'}"), alpha)


class VideoWriter:
    """A video that is being written.

    Args:
        target: the file.
        look: size, aspect and colours of the frames.
        rate: usual number of frames a second.
        sound: path of the file whose sound is kept, or None.

    Attributes:
        problems: what was left out, one line each.

    Raises:
        VideoError: it cannot be written there.
    """

    def __init__(self, target: Target, look: Look, rate: Fraction, sound: str | None) -> None:
        self.target, self.problems = target, list[str]()
        self._part = _part(target.path)
        self._step = float(1 / rate)
        self._ticks: dict[int, int] = {}  # duration of each frame by its time stamp
        self._last: int | None = None
        codec, self._format, options = _PRORES if target.alpha else _H264
        self._look = replace(look, full=False) if target.alpha else look  # ProRes has no full range
        try:
            self._container = av.open(f"file:{self._part}", "w", format=target.path.suffix[1:])
            self._stream: Any = self._container.add_stream(codec, rate=rate, options=options)
            height, width = look.size
            even = (width, height) if target.alpha else (width + width % 2, height + height % 2)
            self._stream.width, self._stream.height = even
            self._stream.pix_fmt, self._stream.codec_context.time_base = self._format, _TICK
            tag(self._stream.codec_context, self._look)
            self._sound = self._open_sound(sound)
        except (FFmpegError, ValueError, OSError) as error:
            self._remove()
            raise self._failed(error) from None

    def write(self, pixels: Pixels, seconds: float) -> None:
        """Appends a frame: (H, W, 3) RGB, or (H, W, 4) RGBA where the file has alpha, and when it is shown.

        Raises:
            VideoError: the file cannot be written.
        """
        try:
            frame = encode(_even(pixels, self._stream.width, self._stream.height), self._look, self._format)
            frame.time_base, frame.pts = _TICK, round(seconds / _TICK)
            if self._last is not None:
                frame.pts = max(frame.pts, self._last + 1)
                self._ticks[self._last] = frame.pts - self._last
            self._last = frame.pts
            self._mux(self._stream.encode(frame))
            self._mux_sound(seconds)
        except (FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def close(self, end: float | None = None) -> None:
        """Ends the file and renames it into its place.

        Args:
            end: seconds at which the last frame and the sound end; by default one usual frame after the last.

        Raises:
            VideoError: the file cannot be written; what was there before is still there.
        """
        last = self._last or 0
        usual = last + round(self._step / _TICK)
        tick = usual if end is None else max(last + 1, round(end / _TICK))
        self._ticks[last] = tick - last
        try:
            self._mux(self._stream.encode(None))
            self._mux_sound(float(tick * _TICK), last=True)
            self._container.close()
            self._part.replace(self.target.path)
        except (FFmpegError, OSError) as error:
            self.discard()
            raise self._failed(error) from None
        self._close_sound()

    def discard(self) -> None:
        """Removes what was written; what was there before is still there."""
        with suppress(FFmpegError, OSError):
            self._container.close()
        self._close_sound()
        self._remove()

    def _open_sound(self, source: str | None) -> Sound | None:
        if source is None:
            return None
        try:
            return Sound(source, self._container)
        except VideoError as error:
            self.problems.append(f"{self.target.path}: written without sound. {error}")
            return None

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._ticks.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def _mux_sound(self, seconds: float, last: bool = False) -> None:
        if self._sound is None:
            return
        try:
            packets = list(self._sound.packets(seconds, last))
        except (FFmpegError, ValueError) as error:
            self.problems.append(f"{self.target.path}: sound ends early ({reason(error)}).")
            self._close_sound()
            return
        for packet in packets:
            self._container.mux(packet)

    def _close_sound(self) -> None:
        if getattr(self, "_sound", None) is not None:
            self._sound.close()  # pyright: ignore[reportOptionalMemberAccess]
        self._sound = None

    def _remove(self) -> None:
        with suppress(OSError):
            self._part.unlink()

    def _failed(self, error: Exception) -> VideoError:
        return VideoError(
            f"{self.target.path}: cannot be written ({reason(error)}). Free space or choose another --out."
        )


def _part(path: Path) -> Path:
    """A new empty file beside `path`, with a short name: that of `path` may be as long as names can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(path.absolute())
        part.unlink(missing_ok=True)
        part.touch(exist_ok=False)
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror or error}). Choose another --out.") from None
    return part


def _even(pixels: Pixels, width: int, height: int) -> Pixels:
    """Repeats the last column and row of a frame with an odd side: H.264 stores colours for pairs of pixels."""
    extra = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
    return np.pad(pixels, extra, mode="edge") if extra != ((0, 0),) * 3 else pixels
