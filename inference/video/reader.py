"""Frames of a video file or a camera, in time, with what is broken left out."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from utils.errors import UserError

Pixels = NDArray[np.uint8]

RATE = 25.0  # frames a second where the source does not say
RETRIES = 250  # failed reads in a row that still count as a hole in the file, not as its end
LONGEST_GAP = 10.0  # seconds that a frame may stand still; more is a jump of the clock
LONGEST_STEP_BACK = 1.0  # seconds that frames may come out of order; more is a jump of the clock


class VideoError(UserError):
    """A video that cannot be read or written."""


class Frame(NamedTuple):
    """One picture of a video: (H, W, 3) RGB, and how many times it is shown at a constant rate."""

    pixels: Pixels
    copies: int


class Pacer:
    """Turns frames with times into a constant rate: late frames fill the gap before them, crowded ones are left out.

    Phones film at a varying rate, a camera that is read slowly drops frames, and a hole in a file leaves a gap. With
    constant copies the picture would run away from the sound.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.shown = 0
        self._offset: float | None = None
        self._last = 0.0

    def copies(self, seconds: float) -> int:
        """How many times the frame of that time is shown; 0: leave it out."""
        if self._offset is None:
            self._offset = -seconds
        gap = seconds + self._offset - self._last
        stands = gap == 0 and self.shown > 0
        if stands or not -LONGEST_STEP_BACK <= gap <= LONGEST_GAP:
            self._offset += 1 / self.rate - gap  # the clock stands or jumped: go on one frame later
        self._last = seconds + self._offset
        count = max(0, round(self._last * self.rate) + 1 - self.shown)
        self.shown += count
        return count


class Clip:
    """An open video file or camera.

    Args:
        source: path of a file, or the number of a camera.

    Attributes:
        camera: whether it is one.
        size: height and width of its frames, upright.
        rate: frames a second.
        seconds: how long the file says it is; None for a camera, or where it says nothing.
        found: frames that were read so far.
        holes: reads that failed between good frames.

    Raises:
        VideoError: it cannot be opened, or holds no frame.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.camera = source.isdecimal()
        if not self.camera and not Path(source).is_file():
            raise VideoError(f"{source}: no such video file; a camera is given by its number, such as 0.")
        # What the codec library says of broken packets would bury our own line.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        self._capture = cv2.VideoCapture(int(source) if self.camera else source)
        self.found = self.holes = 0
        self._pacer = Pacer(self._rate())
        self._first = self._read()
        if self._first is None:
            self._capture.release()
            kind = "camera" if self.camera else "video"
            raise VideoError(f"{source}: no {kind} that OpenCV {cv2.__version__} can read, or without a whole frame.")
        height, width = self._first.pixels.shape[:2]
        self.size = (height, width)
        self.seconds = None if self.camera else _seconds(source, self.rate) or self._counted()

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self._pacer.rate

    @property
    def length(self) -> int | None:
        """Frames that it should have at its constant rate; None where that is not known."""
        return None if self.seconds is None else round(self.seconds * self.rate)

    @property
    def damage(self) -> str | None:
        """What of the file could not be read, in a few words; None if all could. Ask when the frames have ended."""
        shown = self._pacer.shown
        short = (self.length or 0) - shown
        told = []
        # Files estimate their length: two frames or one in a hundred do not count.
        if short > max(2, 0.01 * shown):
            told.append(f"ends after {shown / self.rate:.1f} of {self.seconds:.1f} s")
        if self.holes:
            told.append(f"{self.holes} frames in between could not be read")
        return ", ".join(told) or None

    def frames(self) -> Iterator[Frame]:
        """All frames that are shown, in order; past a hole it goes on with the next one that is whole."""
        frame = self._first
        while frame is not None:
            if frame.copies:
                yield frame
            frame = self._read()

    def close(self) -> None:
        """Lets go of file or camera."""
        self._capture.release()

    def _rate(self) -> float:
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return rate if 1 <= rate <= 1000 else RATE

    def _counted(self) -> float | None:
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return count / self.rate if count > 0 else None

    def _read(self) -> Frame | None:
        for failed in range(1 if self.camera else RETRIES):
            whole, pixels = self._capture.read()
            if whole:
                self.holes += failed
                return self._frame(pixels)
        return None

    def _frame(self, pixels: MatLike) -> Frame:
        if self.found and pixels.shape[:2] != self.size:
            pixels = cv2.resize(pixels, self.size[::-1], interpolation=cv2.INTER_AREA)
        self.found += 1
        clock = time.monotonic() if self.camera else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        copies = self._pacer.copies(clock)
        return Frame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), copies)


def _seconds(source: str, rate: float) -> float | None:
    """Length of the picture track, by ffprobe where it is installed; OpenCV knows only that of the whole file, which
    longer sound stretches."""
    if shutil.which("ffprobe") is None:
        return None
    fields = ["-select_streams", "v:0", "-show_entries", "stream=nb_frames,duration:stream_tags=DURATION"]
    command = ["ffprobe", "-v", "error", *fields, "-of", "json", source]
    ended = subprocess.run(command, capture_output=True, check=False)
    stream = next(iter(json.loads(ended.stdout or "{}").get("streams", [])), {})
    if "nb_frames" in stream:  # counted; a duration may be no more than a guess by the size of the file
        return int(stream["nb_frames"]) / rate
    told = stream.get("duration") or stream.get("tags", {}).get("DURATION")
    if told is None:
        return None
    hours, minutes, seconds = ["0", "0", *told.split(":")][-3:]  # 4.0 or 00:00:04.023
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
