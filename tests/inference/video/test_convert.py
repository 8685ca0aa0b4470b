"""Videos from end to end."""

import shutil

import numpy as np
import pytest

from inference.compositing import cut_out, overlay
from inference.predictor import Predictor
from inference.refinement import Refinement
from inference.saliency import restore, to_8bit
from inference.video import writer as writers
from inference.video.convert import make_video
from inference.video.errors import VideoError
from inference.video.reader import Clip
from inference.video.smoothing import Smoother, small_frame
from inference.video.writer import Target
from tests.films import read_film, sound_of, write_film
from utils.paths import PathError

FRAMES = 20


@pytest.fixture(scope="module")
def predictor(tiny_weights):
    return Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.mp4", FRAMES)


def test_every_frame_of_the_overlay_is_drawn_from_the_frame_at_its_place(predictor, film, tmp_path):
    calls = []
    result = make_video(predictor, Clip(str(film)), tmp_path / "out/film", ["overlay"], settled=lambda: calls.append(1))
    assert result.files == (tmp_path / "out/film_overlay.mp4",)
    assert (result.found, result.written, len(calls), result.problems) == (FRAMES, FRAMES, FRAMES, ())
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["film_overlay.mp4"]
    source = [frame.pixels for frame in Clip(str(film)).frames()]
    written, _ = read_film(result.files[0])
    maps = [to_8bit(saliency) for saliency in predictor.batch(source)]
    expected = [overlay(image, saliency) for image, saliency in zip(source, maps, strict=True)]
    errors = [[np.abs(one.astype(int) - other).mean() for other in expected] for _, one in written[::4]]
    assert list(np.argmin(errors, axis=1)) == list(range(0, FRAMES, 4)) and np.min(errors, axis=1).max() < 12


def test_the_cutout_has_the_map_as_alpha(predictor, film, tmp_path):
    result = make_video(predictor, Clip(str(film)), tmp_path / "film", ["overlay", "cutout"], batch=7, workers=3)
    assert [file.name for file in result.files] == ["film_overlay.mp4", "film_cutout.mov"]
    written, properties = read_film(result.files[1])
    assert properties["codec"] == "prores"
    for i, frame in enumerate(Clip(str(film)).frames()):
        expected, pixels = cut_out(frame.pixels, to_8bit(predictor(frame.pixels))), written[i][1].astype(int)
        assert np.abs(pixels[..., 3] - expected[..., 3]).mean() < 2
        sure = expected[..., 3] > 200
        assert np.abs(pixels[..., :3] - expected[..., :3])[sure].mean() < 12


def test_smoothed_maps_depend_neither_on_batches_nor_on_threads(predictor, film, tmp_path):
    made = []
    for batch, workers in ((1, 1), (7, 4)):
        result = make_video(
            predictor, Clip(str(film)), tmp_path / f"{batch}", ["cutout"], batch=batch, workers=workers, smooth=True
        )
        made.append([pixels[..., 3].astype(int) for _, pixels in read_film(result.files[0])[0]])
    frames = [frame.pixels for frame in Clip(str(film)).frames()]
    smoother = Smoother(predictor.size)
    for i, frame in enumerate(frames):
        logits = predictor.logits([predictor.prepare(frame)])[0]
        expected = to_8bit(restore(smoother(small_frame(frame, predictor.size), logits), frame.shape[:2]))
        for alphas in made:
            assert np.abs(alphas[i] - expected).mean() < 2
    assert len(frames) == FRAMES


def test_maps_of_a_video_are_refined(predictor, film, tmp_path):
    result = make_video(predictor, Clip(str(film)), tmp_path / "film", ["cutout"], refinement=Refinement(gain=100))
    written, _ = read_film(result.files[0])
    for i, frame in enumerate(Clip(str(film)).frames()):
        expected = to_8bit(
            restore(100 * predictor.logits([predictor.prepare(frame.pixels)])[0], frame.pixels.shape[:2])
        )
        assert np.abs(written[i][1][..., 3].astype(int) - expected).mean() < 2


@pytest.mark.parametrize("smooth", [False, True])
def test_a_frame_that_cannot_be_prepared_ends_the_run_without_a_wait(film, tmp_path, tiny_weights, monkeypatch, smooth):
    predictor = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")
    whole, calls = predictor.prepare, []

    def prepare(pixels):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return whole(pixels)

    monkeypatch.setattr(predictor, "prepare", prepare)
    with pytest.raises(VideoError, match="not enough memory"):
        make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"], workers=1, smooth=smooth)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_sound_is_kept(predictor, tmp_path, seconds):
    """Sound that is shorter than the film does not cut it; sound that is longer is cut."""
    film = write_film(tmp_path / "film.mkv", FRAMES, sound=(0.0, seconds))
    result = make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay", "cutout"])
    assert result.problems == ()
    for file in result.files:
        frames, _ = read_film(file)
        assert [time for time, _ in frames] == pytest.approx([i / 10 for i in range(FRAMES)])
        assert sound_of(file)[1] == pytest.approx(min(seconds, 2.0), abs=0.1)


def test_sound_that_cannot_be_decoded_is_a_problem_and_the_film_is_written(predictor, tmp_path):
    film = write_film(tmp_path / "film.mkv", FRAMES, sound=(0.0, 2.0))
    content = film.read_bytes()
    film.write_bytes(content.replace(b"A_AAC", b"A_XYZ"))
    result = make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"])
    assert len(read_film(result.files[0])[0]) == FRAMES
    assert len(result.problems) == 1 and "written without sound" in result.problems[0]


def test_a_film_that_is_cut_keeps_what_was_good(predictor, tmp_path):
    film = write_film(tmp_path / "film.avi", FRAMES, codec="mjpeg", pixels="yuvj420p", full=True)
    content = film.read_bytes()
    begin = content.index(b"movi")
    film.write_bytes(content[: begin + (content.index(b"idx1") - begin) // 2])
    result = make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"])
    assert 0 < result.found < FRAMES
    assert len(read_film(result.files[0])[0]) == result.written == result.found
    assert "damaged or cut: ends after" in result.problems[0]


def test_ctrl_c_ends_the_file(predictor, film, tmp_path):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    result = make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"], batch=1, settled=stop)
    assert 5 <= result.written < FRAMES
    assert len(read_film(result.files[0])[0]) == result.written
    assert "stopped; what was done is kept" in result.problems[0]


@pytest.mark.parametrize("moment", ["first frame", "last frame", "rename"])
def test_where_writing_fails_the_earlier_file_stays(predictor, film, tmp_path, monkeypatch, moment):
    (tmp_path / "out_overlay.mp4").write_bytes(b"earlier")
    encode = writers.encode
    calls = []

    def full(*arguments):
        calls.append(1)
        if len(calls) == (1 if moment == "first frame" else FRAMES):
            raise OSError(28, "No space left on device")
        return encode(*arguments)

    if moment == "rename":
        (tmp_path / "out_overlay.mp4").unlink()
        (tmp_path / "out_overlay.mp4").mkdir()
    else:
        monkeypatch.setattr(writers, "encode", full)
    with pytest.raises(VideoError, match=r"out_overlay\.mp4: cannot be written \((No space left|Is a dir)") as caught:
        make_video(predictor, Clip(str(film)), tmp_path / "out", ["overlay"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out_overlay.mp4"}
    if moment != "rename":
        assert (tmp_path / "out_overlay.mp4").read_bytes() == b"earlier"


def test_a_place_that_cannot_be_written(predictor, film, tmp_path):
    (tmp_path / "file").touch()
    for stem in (tmp_path / ("x" * 250), tmp_path / "file" / "below"):
        with pytest.raises(VideoError, match="cannot be written") as caught:
            make_video(predictor, Clip(str(film)), stem, ["overlay"])
        assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "file"}


@pytest.mark.parametrize("link", [False, True])
def test_the_video_itself_is_not_overwritten(predictor, film, tmp_path, link):
    path = tmp_path / "film_overlay.mp4"
    path.symlink_to(film) if link else shutil.move(film, path)
    before = path.read_bytes()
    with pytest.raises(PathError, match="the output is the input"):
        make_video(predictor, Clip(str(film if link else path)), tmp_path / "film", ["overlay"])
    assert path.read_bytes() == before


def test_names_of_the_files(tmp_path):
    assert Target.of(tmp_path / "a.b", "cutout") == Target(tmp_path / "a.b_cutout.mov", True)
    assert Target.of(tmp_path / "a.b", "overlay") == Target(tmp_path / "a.b_overlay.mp4", False)
