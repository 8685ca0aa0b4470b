"""Frames in time: the pacer on constructed clocks, the reader on whole, cut and damaged files."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.video.reader import LONGEST_GAP, Clip, Pacer, VideoError


@given(
    rate=st.sampled_from([10.0, 25.0, 29.97, 60.0]),
    gaps=st.lists(st.floats(0.001, 0.999 * LONGEST_GAP), max_size=60),  # at the limit itself rounding decides
    start=st.floats(0, 1e4),
)
def test_the_rate_is_constant_whatever_the_gaps(rate, gaps, start):
    """After each frame, as many are shown as a constant rate has by then, within one."""
    pacer, time = Pacer(rate), 0.0
    for gap in [0.0, *gaps]:
        time += gap
        pacer.copies(start + time)
        assert abs(pacer.shown - (time * rate + 1)) <= 0.5 + 1e-3


def test_even_frames_are_shown_once_each():
    pacer = Pacer(30.0)
    times = [round(i / 30, 3) for i in range(3000)]  # whole milliseconds, as Matroska keeps them
    assert [pacer.copies(time) for time in times] == [1] * 3000


def test_crowded_frames_are_left_out_and_gaps_filled():
    pacer = Pacer(10.0)
    assert [pacer.copies(time) for time in (0, 0.01, 0.02, 0.1, 0.4, 0.5)] == [1, 0, 0, 1, 3, 1]


def test_a_clock_that_stands_shows_every_frame_once():
    pacer = Pacer(25.0)
    assert [pacer.copies(0.0) for _ in range(50)] == [1] * 50


@pytest.mark.parametrize("jump", [-5000.0, 5000.0])
def test_a_clock_that_jumps_goes_on_one_frame_later(jump):
    pacer = Pacer(10.0)
    times = [0.0, 0.1, 0.2, jump, jump + 0.1, jump + 0.2]
    assert [pacer.copies(time) for time in times] == [1] * 6


def test_frames_out_of_order_do_not_shift_the_rest():
    pacer = Pacer(10.0)
    times = [0.0, 0.1, 0.3, 0.2, 0.4, 0.5]
    assert [pacer.copies(time) for time in times] == [1, 1, 2, 0, 1, 1]


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
    assert (clip.size, clip.rate, clip.length) == ((32, 48), 20.0, 40)
    assert greys(clip) == list(range(40))
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
    assert clip.damage == f"ends after {clip.found / 20:.1f} of 2.0 s"


def test_past_a_hole_it_goes_on(motion_jpeg):
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


def test_what_is_no_video(tmp_path):
    with pytest.raises(VideoError, match=r"nothing\.mp4: no such video file"):
        Clip(str(tmp_path / "nothing.mp4"))
    for content in (b"", b"no video at all"):
        (tmp_path / "text.mp4").write_bytes(content)
        with pytest.raises(VideoError, match=r"text\.mp4: no video that OpenCV"):
            Clip(str(tmp_path / "text.mp4"))


def test_a_camera_that_is_not_there():
    with pytest.raises(VideoError, match="77: no camera that OpenCV"):
        Clip("77")
