"""Frames to video files: through ffmpeg where it is installed (H.264, ProRes with alpha, sound), else through OpenCV.

A file is written beside its place and renamed into it when it is whole.
"""

import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.video.reader import VideoError

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

GREEN = (0, 255, 0)
_H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "18")
_MPEG4 = ("-c:v", "mpeg4", "-q:v", "3")  # what every ffmpeg has
_PRORES = ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le", "-vendor", "apl0")
# Half the colour samples in both directions need even sides: one more row or column, repeated from nothing (black).
_PLAIN = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p")


class VideoWriter(Protocol):
    """What takes frames of one video, in order."""

    def write(self, pixels: Pixels) -> None:
        """Appends a frame: (H, W, 3) RGB, or (H, W, 4) RGBA where the file has alpha."""
        ...

    def close(self) -> None:
        """Ends the file and puts it into its place."""
        ...


def has_ffmpeg() -> bool:
    """Whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


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
        """`stem_KIND.mov` with alpha for a cut-out where ffmpeg is installed, else `stem_KIND.mp4`."""
        alpha = kind == "cutout" and has_ffmpeg()
        return cls(stem.with_name(f"{stem.name}_{kind}{'.mov' if alpha else '.mp4'}"), alpha)

    def open(self, size: Size, rate: float) -> VideoWriter:
        """Starts the file.

        Args:
            size: height and width of the frames.
            rate: frames a second.

        Raises:
            VideoError: it cannot be written there.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"{self.path}: no folder can be made for it ({error.strerror or error}).") from error
        return _Ffmpeg(self, size, rate) if has_ffmpeg() else _OpenCV(self, size, rate)


class _Ffmpeg:
    """Frames through a pipe to an ffmpeg process."""

    def __init__(self, target: Target, size: Size, rate: float) -> None:
        self.target = target
        self.part = _part(target.path)
        height, width = size
        pixels = "rgba" if target.alpha else "rgb24"
        source = ("-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", f"{rate:.6f}", "-i", "pipe:0")
        codec = _PRORES if target.alpha else (*(_H264 if _encodes("libx264") else _MPEG4), *_PLAIN)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        # In a session of its own: Ctrl-C stops us, and we end the file.
        self._process = subprocess.Popen(
            [*_command(), *source, *codec, str(self.part)],
            stdin=subprocess.PIPE, stderr=self._errors, start_new_session=True,
        )  # fmt: skip

    def write(self, pixels: Pixels) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(pixels).data)
        except OSError as error:
            raise VideoError(f"{self.target.path}: ffmpeg stopped ({self._reason() or error}).") from error

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it died before the last frame; the exit code tells
            self._process.stdin.close()
        code = self._process.wait()
        reason = self._reason()
        self._errors.close()
        if code:
            with suppress(OSError):
                self.part.unlink()
            raise VideoError(f"{self.target.path}: ffmpeg could not write it ({reason or f'exit code {code}'}).")
        self.part.replace(self.target.path)

    def _reason(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class _OpenCV:
    """MPEG-4 without sound through OpenCV's own codec library."""

    def __init__(self, target: Target, size: Size, rate: float) -> None:
        self.target = target
        self.part = _part(target.path)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self.part), fourcc, rate, size[::-1])
        if not self._writer.isOpened():
            raise VideoError(f"{target.path}: OpenCV {cv2.__version__} cannot write it. Install ffmpeg.")

    def write(self, pixels: Pixels) -> None:
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        self.part.replace(self.target.path)


def add_sound(video: Path, source: Path, seconds: float) -> None:
    """Puts the first sound track of `source` under a video, if there is one.

    Args:
        video: the file without sound; replaced.
        source: the file with sound.
        seconds: length of the video; sound beyond it is left out.

    Raises:
        VideoError: the sound cannot be read; the video stays as it was.
    """
    part = _part(video)
    tracks = ("-map", "0:v:0", "-map", "1:a:0?", "-c:v", "copy", "-c:a", "aac", "-b:a", "192k")
    ended = subprocess.run(
        [*_command(), "-i", str(video), "-i", str(source), *tracks, "-t", f"{seconds:.6f}", str(part)],
        capture_output=True, stdin=subprocess.DEVNULL, text=True, errors="replace", check=False,
    )  # fmt: skip
    if ended.returncode:
        part.unlink(missing_ok=True)
        reason = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise VideoError(f"{video}: written without sound, which ffmpeg could not take over ({reason[-1]}).")
    part.replace(video)


def _command() -> tuple[str, ...]:
    return ("ffmpeg", "-hide_banner", "-loglevel", "error", "-y")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.stem}.part{path.suffix}")


@cache
def _encodes(codec: str) -> bool:
    listed = subprocess.run([*_command(), "-encoders"], capture_output=True, text=True, check=False)
    return codec in listed.stdout.split()
