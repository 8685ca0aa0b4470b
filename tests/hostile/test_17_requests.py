"""Point 17: a request out of range or out of place is one line under 300 characters, exit code 2, nothing written."""

import pytest

from tests.hostile.conftest import contents
from utils.errors import UserError, one_line


@pytest.mark.parametrize(
    "more",
    [
        ["--size", "1000000000"], ["--size", "16"], ["--size", "-1"], ["--size", "nan"], ["--workers", "1000"],
        ["--workers", "0"], ["--batch", "0"], ["--batch", "10000000000"], ["--sizes", "224", "7"], ["--gain", "nan"],
        ["--gain", "-1"], ["--specks", "2"], ["--crop", "7"], ["--max-megapixels", "0"], ["--type", "glass" * 100],
        ["--size", "224", "--sizes", "224"], ["--images", "x", "--data", "A=b"], ["--data", "x" * 5000],
        ["--imges", "x"], ["--calibration", "x"], ["--device", "tpu"],
    ],
)  # fmt: skip
def test_one_line_and_nothing_written(script, words, photos, tmp_path, capsys, more):
    before = contents(tmp_path)
    images = [] if "--data" in more or "--images" in more else ["--images", str(photos)]
    try:
        script.main([*words, *images, *more])
    except UserError as error:
        line = f"error: {one_line(str(error))}"
    except SystemExit as end:
        assert end.code == 2
        line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and len(line) < 300 and "\n" not in line and "usage" not in line
    assert contents(tmp_path) == before


def test_a_folder_at_the_name_of_a_map(run, photos, tmp_path):
    (tmp_path / "out/maps/a.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"maps/a\.png: is a folder"):
        run("--images", photos)


def test_a_read_only_map_is_replaced(run, photos, tmp_path):
    assert run("--images", photos) == 0
    before = contents(tmp_path / "out")
    for path in (tmp_path / "out/maps").rglob("*.png"):
        path.write_bytes(b"old")
        path.chmod(0o444)
    assert run("--images", photos) == 0
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["file", "file/below", "cut.gif/x"])
def test_an_output_below_a_file(run, photos, tmp_path, name):
    (tmp_path / name.split("/")[0]).write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        run("--images", photos, "--out", tmp_path / name)
    assert (tmp_path / name.split("/")[0]).read_text() == "mine"


def test_several_images_and_one_file(run, photos, tmp_path):
    with pytest.raises(UserError, match=r"is one file, but the run has 3 images"):
        run("--images", photos, "--out", tmp_path / "all.png")
    with pytest.raises(UserError, match=r"is one file, but the run has overlay and cutout"):
        run("--images", photos / "a.png", "--overlay", "--cutout", "--out", tmp_path / "all.png")
    with pytest.raises(UserError, match="JPEG has no transparency"):
        run("--images", photos / "a.png", "--cutout", "--out", tmp_path / "all.jpg")
