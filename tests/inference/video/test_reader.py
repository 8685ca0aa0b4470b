"""The reader on whole, cut and damaged files, and on what is no video."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from inference.video.errors import VideoError
from inference.video.reader import Clip


@pytest.fixture
def motion_jpeg(tmp_path):
    """40 frames of 48 x 32 at 20 a second, each a JPEG of its own; frame i has the grey value 5 i."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (48, 32))
    for i in range(40):
        writer.write(np.full((32, 48, 3), 5 * i, np.uint8))
    writer.release()
    return path


def greys(clip):
    return [round(float(frame.pixels.mean()) / 5) for frame in clip.frames()]


def test_a_whole_clip(motion_jpeg):
    clip = Clip(str(motion_jpeg))
    assert (clip.size, clip.rate, clip.length) == ((32, 48), 20, 40)
    frames = list(clip.frames())
    assert [round(float(frame.pixels.mean()) / 5) for frame in frames] == list(range(40))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 20 for i in range(40)])
    assert (clip.found, clip.damage) == (40, None)


def test_colours_are_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))
    writer.release()
    red = next(Clip(str(tmp_path / "red.avi")).frames()).pixels.mean(axis=(0, 1))
    assert red[0] > 240 and red[2] < 15


def test_a_clip_that_is_cut(motion_jpeg):
    content = motion_jpeg.read_bytes()
    start = content.index(b"movi")
    motion_jpeg.write_bytes(content[: start + (content.index(b"idx1") - start) // 2])
    clip = Clip(str(motion_jpeg))
    found = greys(clip)
    assert found == list(range(len(found)))
    assert 15 <= len(found) <= 25
    assert clip.damage is not None and "of 2.0 s" in clip.damage


def test_frames_after_a_hole_are_read(motion_jpeg):
    content = bytearray(motion_jpeg.read_bytes())
    start = content.index(b"movi")
    place = start + (content.index(b"idx1") - start) // 2
    content[place : place + 3000] = bytes(3000)
    motion_jpeg.write_bytes(content)
    clip = Clip(str(motion_jpeg))
    frames = list(clip.frames())
    values = [frame.pixels.mean() / 5 for frame in frames]
    assert round(values[0]) == 0 and round(values[-1]) == 39
    assert len(frames) < 40 and clip.damage is not None
    assert all(one.seconds < other.seconds for one, other in pairwise(frames))


def test_what_is_no_video(tmp_path):
    with pytest.raises(VideoError, match=r"nothing\.mp4: no such video file"):
        Clip(str(tmp_path / "nothing.mp4"))
    for content in (b"", b"no video at all"):
        (tmp_path / "text.mp4").write_bytes(content)
        with pytest.raises(VideoError, match=r"text\.mp4: no video that FFmpeg can read") as caught:
            Clip(str(tmp_path / "text.mp4"))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_camera_that_does_not_exist():
    with pytest.raises(VideoError, match="77: no camera image could be read"):
        Clip("77")
