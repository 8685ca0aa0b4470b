"""Point 14: a film with dropped or empty frames, or with times in the order of decoding, is read to its end."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from inference.video.reader import Clip
from tests.films import scene

FRAMES = 20


def write(path, codec="mjpeg", pixels="yuvj420p", dropped=(), options=None):
    """Ten frames a second; the muxer of AVI writes an empty packet in place of each that is dropped."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=10, options=options or {})
        video.width, video.height, video.pix_fmt = 80, 60, pixels
        packets = []
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scene(i, FRAMES), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = i, Fraction(1, 10)
            packets += video.encode(frame)
        for number, packet in enumerate([*packets, *video.encode(None)]):
            if number not in dropped:
                out.mux(packet)
    return str(path)


def empty_packet(path, number):
    """Gives the bytes of a packet of a .mov to the one before it, whose decoder takes the first image alone."""
    content = bytearray(path.read_bytes())
    place = content.index(b"stsz") + 16 + 4 * (number - 1)
    before, size = struct.unpack(">2I", content[place : place + 8])
    content[place : place + 8] = struct.pack(">2I", before + size, 0)
    path.write_bytes(content)


def places(frames):
    """Which frames of `scene` these are."""
    scenes = [scene(i, FRAMES).astype(int) for i in range(FRAMES)]
    return [int(np.argmin([np.abs(frame.pixels - one).mean() for one in scenes])) for frame in frames]


@pytest.mark.parametrize("numbers", [[8], [8, 9], [19], range(5, 12)])
def test_empty_packets_do_not_end_the_film(tmp_path, numbers):
    path = tmp_path / "film.mov"
    write(path)
    for number in reversed(numbers):
        empty_packet(path, number)
    clip = Clip(str(path))
    frames = list(clip.frames())
    whole = [number for number in range(FRAMES) if number not in numbers]
    assert places(frames) == whole
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in whole])
    assert clip.damage is None


@pytest.mark.parametrize(("codec", "pixels"), [("mjpeg", "yuvj420p"), ("huffyuv", "yuv422p")])
@pytest.mark.parametrize("dropped", [[8], range(5, 12)])
def test_dropped_frames_of_an_avi_are_no_damage(tmp_path, codec, pixels, dropped):
    clip = Clip(write(tmp_path / "film.avi", codec, pixels, dropped))
    frames = list(clip.frames())
    kept = [number for number in range(FRAMES) if number not in dropped]
    assert places(frames) == kept
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in kept])
    assert clip.damage is None


@pytest.mark.parametrize(("codec", "options"), [("libx264", {}), ("mpeg4", {"bf": "2"}), ("libx264", {"bf": "0"})])
def test_frames_of_an_avi_that_are_stored_out_of_order_are_all_shown(tmp_path, codec, options):
    clip = Clip(write(tmp_path / "film.avi", codec, "yuv420p", options=options))
    frames = list(clip.frames())
    assert places(frames) == list(range(FRAMES))
    assert np.diff([frame.seconds for frame in frames]) == pytest.approx([0.1] * (FRAMES - 1))
    assert frames[0].seconds <= 0.1 and clip.damage is None


def test_a_flash_film_whose_first_frame_comes_late_is_whole(tmp_path):
    clip = Clip(write(tmp_path / "film.flv", "libx264", "yuv420p"))
    assert places(clip.frames()) == list(range(FRAMES))
    assert clip.damage is None
