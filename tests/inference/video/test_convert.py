"""Videos from end to end, with ffmpeg and without."""

import shutil
import subprocess

import cv2
import numpy as np
import pytest

from inference.compositing import cut_out, on_background, overlay
from inference.predictor import Predictor
from inference.saliency import to_8bit
from inference.video.convert import make_video
from inference.video.reader import Clip, VideoError
from inference.video.writer import GREEN, Target, has_ffmpeg

needs_ffmpeg = pytest.mark.skipif(not has_ffmpeg(), reason="needs ffmpeg")
FRAMES, RATE = 30, 15.0


@pytest.fixture
def without_ffmpeg(monkeypatch, tmp_path):
    """A search path on which there is nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture(scope="module")
def predictor(tiny_weights):
    return Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")


def scene(i, height, width):
    """A disc on its way from left to right, over a slope of grey."""
    image = np.repeat(np.linspace(30, 200, width, dtype=np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    cv2.circle(image, (i * width // FRAMES, height // 2), height // 4, (40, 60, 220), -1)
    return image


@pytest.fixture
def film(tmp_path):
    """A motion JPEG of `FRAMES` frames of 80 x 60."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (80, 60))
    for i in range(FRAMES):
        writer.write(scene(i, 60, 80))
    writer.release()
    return path


def frames_of(path):
    return [frame.pixels for frame in Clip(str(path)).frames()]


def streams(path, fields="codec_type,codec_name,duration,pix_fmt"):
    command = ["ffprobe", "-v", "error", "-show_entries", f"stream={fields}", "-of", "csv=p=0", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def assert_frames(path, predictor, film, draw):
    """Every frame of a file is drawn from the frame of the film at its place, but for the codec's loss."""
    source, written = frames_of(film), frames_of(path)
    assert len(written) == len(source) == FRAMES
    expected = [draw(image, to_8bit(saliency)) for image, saliency in zip(source, predictor.batch(source), strict=True)]
    errors = [
        [np.abs(one.astype(int) - other.astype(int)).mean() for other in expected] for one in written[:: FRAMES // 5]
    ]
    nearest = np.argmin(errors, axis=1)
    assert list(nearest) == list(range(0, FRAMES, FRAMES // 5))
    assert np.min(errors, axis=1).max() < 12


def test_overlay_without_ffmpeg(predictor, film, tmp_path, without_ffmpeg):
    calls = []
    result = make_video(predictor, Clip(str(film)), tmp_path / "out/film", ["overlay"], settled=lambda: calls.append(1))
    assert result.files == (tmp_path / "out/film_overlay.mp4",)
    assert (result.found, result.written, len(calls), result.problems) == (FRAMES, FRAMES, FRAMES, ())
    assert_frames(result.files[0], predictor, film, overlay)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["film_overlay.mp4"]


def test_cutout_without_ffmpeg_stands_on_green(predictor, film, tmp_path, without_ffmpeg):
    result = make_video(predictor, Clip(str(film)), tmp_path / "film", ["cutout"])
    assert result.files == (tmp_path / "film_cutout.mp4",)
    assert_frames(result.files[0], predictor, film, lambda image, saliency: on_background(image, saliency, GREEN))


@needs_ffmpeg
def test_overlay_of_odd_size_with_ffmpeg(predictor, film, tmp_path):
    path = tmp_path / "odd.mkv"
    odd = ["-vf", "crop=79:59:0:0:exact=1", "-pix_fmt", "bgr0", "-c:v", "ffv1", path]
    subprocess.run(["ffmpeg", "-v", "error", "-i", film, *odd], check=True)
    assert Clip(str(path)).size == (59, 79)
    result = make_video(predictor, Clip(str(path)), tmp_path / "film", ["overlay"], batch=7, workers=3)
    assert result.problems == ()
    assert frames_of(result.files[0])[0].shape == (60, 80, 3)
    assert streams(result.files[0], "codec_type,duration") == ["video,2.000000"]


@needs_ffmpeg
def test_cutout_has_the_map_as_alpha(predictor, film, tmp_path):
    result = make_video(predictor, Clip(str(film)), tmp_path / "film", ["overlay", "cutout"])
    assert [file.name for file in result.files] == ["film_overlay.mp4", "film_cutout.mov"]
    assert_frames(result.files[0], predictor, film, overlay)
    raw = ["ffmpeg", "-v", "error", "-i", result.files[1], "-f", "rawvideo", "-pix_fmt", "rgba", "-"]
    pixels = subprocess.run(raw, capture_output=True, check=True).stdout
    written = np.frombuffer(pixels, np.uint8).reshape(FRAMES, 60, 80, 4)
    source = frames_of(film)
    for i in range(0, FRAMES, 7):
        expected = cut_out(source[i], to_8bit(predictor(source[i])))
        assert np.abs(written[i, ..., 3].astype(int) - expected[..., 3]).mean() < 2
        sure = expected[..., 3] > 200
        assert np.abs(written[i, ..., :3].astype(int) - expected[..., :3])[sure].mean() < 12


@needs_ffmpeg
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_sound_is_kept(predictor, film, tmp_path, seconds):
    """Sound that is shorter than the film does not cut it; sound that is longer is cut."""
    tone = ["-f", "lavfi", "-i", f"sine=440:duration={seconds}"]
    spoken = tmp_path / "spoken.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", film, *tone, "-c:v", "copy", "-c:a", "libvorbis", spoken], check=True
    )
    result = make_video(predictor, Clip(str(spoken)), tmp_path / "out", ["overlay", "cutout"])
    assert result.problems == ()
    for file in result.files:
        picture, sound = streams(file, "codec_name,duration")
        assert float(picture.split(",")[1]) == pytest.approx(2.0)
        name, length = sound.split(",")
        assert name == "aac" and float(length) == pytest.approx(min(seconds, 2.0), abs=0.1)


@needs_ffmpeg
def test_a_film_that_is_cut_keeps_what_was_good(predictor, film, tmp_path):
    content = film.read_bytes()
    film.write_bytes(content[: content.index(b"movi") + len(content) // 2])
    clip = Clip(str(film))
    result = make_video(predictor, clip, tmp_path / "out", ["overlay"])
    assert 0 < result.found < FRAMES
    assert len(frames_of(result.files[0])) == result.written == result.found
    assert f"damaged or cut: ends after {result.found / RATE:.1f} of 2.0 s" in result.problems[0]


@pytest.mark.parametrize("ffmpeg", [pytest.param(True, marks=needs_ffmpeg), False])
def test_ctrl_c_ends_the_file(predictor, film, tmp_path, ffmpeg, request):
    if not ffmpeg:
        request.getfixturevalue("without_ffmpeg")
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    result = make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"], batch=1, settled=stop)
    assert 5 <= result.written < FRAMES
    assert len(frames_of(result.files[0])) == result.written
    assert "stopped; what was done is kept" in result.problems[0]


@needs_ffmpeg
def test_a_place_that_ffmpeg_cannot_write(predictor, film, tmp_path):
    with pytest.raises(VideoError, match=r"ffmpeg (stopped|could not write it)") as caught:
        make_video(predictor, Clip(str(film)), tmp_path / ("x" * 250), ["overlay"])
    assert "\n" not in str(caught.value)


def test_the_video_itself_is_not_overwritten(predictor, film, tmp_path, without_ffmpeg):
    path = shutil.move(film, tmp_path / "film_overlay.mp4")
    with pytest.raises(VideoError, match="is the video that is read"):
        make_video(predictor, Clip(str(path)), tmp_path / "film", ["overlay"])


def test_names_of_the_files(tmp_path, without_ffmpeg):
    assert Target.of(tmp_path / "a.b", "cutout") == Target(tmp_path / "a.b_cutout.mp4", False)
    assert Target.of(tmp_path / "a.b", "overlay") == Target(tmp_path / "a.b_overlay.mp4", False)
