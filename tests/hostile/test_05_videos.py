"""Point 5: where a video cannot be written the earlier file stays and test.py fails; odd sides are padded."""

import numpy as np
import pytest

from inference.video import writer
from tests.films import read_film, write_film
from utils.errors import UserError, exit_on_user_error


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.mkv", frames=3, size=(59, 79), codec="ffv1", pixels="bgr0")


def test_a_failure_of_the_encoder_keeps_the_earlier_files(run, film, tmp_path, monkeypatch, capsys):
    assert run("--video", film, "--cutout", "--overlay") == 0
    written = sorted(path for path in (tmp_path / "out").iterdir() if path.suffix in (".mp4", ".mov"))
    before = [path.read_bytes() for path in written]
    assert [path.name for path in written] == ["film_cutout.mov", "film_overlay.mp4"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "encode", full)
    assert exit_on_user_error(lambda: run("--video", film, "--cutout", "--overlay")) == 2
    text = capsys.readouterr().err
    assert "cannot be written (No space left on device)" in text and len(text.splitlines()[-1]) < 300
    assert [path.read_bytes() for path in written] == before
    assert not list((tmp_path / "out").glob(".*")), "nothing half-written"


def test_a_build_without_the_encoder_is_an_error(run, film, tmp_path, monkeypatch):
    """As where FFmpeg was built without H.264."""
    monkeypatch.setattr(writer, "_H264", ("no_such_encoder", "yuv420p", {}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/film_overlay.mp4").write_bytes(b"earlier")
    with pytest.raises(UserError, match=r"film_overlay\.mp4: cannot be written") as caught:
        run("--video", film)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    assert (tmp_path / "out/film_overlay.mp4").read_bytes() == b"earlier"


def test_odd_sides_are_not_cropped(run, film, tmp_path):
    assert run("--video", film, "--cutout", "--overlay") == 0
    overlay, properties = read_film(tmp_path / "out/film_overlay.mp4")
    assert properties["size"] == (60, 80)
    assert np.abs(overlay[0][1][:, 79].astype(int) - overlay[0][1][:, 78]).mean() < 3, "the last column is repeated"
    assert read_film(tmp_path / "out/film_cutout.mov")[1]["size"] == (59, 79)
