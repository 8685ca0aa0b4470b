"""The report on a dataset names what is wrong, and the exit code says so."""

from pathlib import Path

import numpy as np
import pytest

from data.check import check, main
from data.image_io import write_png
from utils.errors import exit_on_user_error


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, :15] = 255
    for index in range(4):
        write_png(tmp_path / "images" / f"{index}.png", np.full((20, 30, 3), 50 * index, np.uint8))
        write_png(tmp_path / "masks" / f"{index}.png", mask)
    return tmp_path


def test_a_good_data_set(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(root)]) == 0
    report = capsys.readouterr().out
    assert "pairs      4, of which 4 can be used" in report
    assert "width      30 to 30 pixels" in report and "height     20 to 20 pixels" in report
    assert "25.0 to 25.0 % of the image" in report
    assert report.rstrip().endswith("Nothing is wrong.")


def test_all_that_is_wrong_is_named(root: Path, capsys: pytest.CaptureFixture[str]):
    (root / "images" / "0.png").write_bytes(b"not an image")
    write_png(root / "masks" / "1.png", np.zeros((30, 20), np.uint8))
    write_png(root / "masks" / "2.png", np.ones((20, 30), np.uint8))
    write_png(root / "images" / "alone.png", np.zeros((20, 30, 3), np.uint8))
    write_png(root / "masks" / "other.png", np.zeros((20, 30), np.uint8))
    assert main([str(root)]) == 1
    report = capsys.readouterr().out
    for line in (
        "5 in ",
        "pairs      4, of which 1 can be used",
        "1 without a mask (alone)",
        "1 without an image (other)",
        "1 unreadable\n",
        "0.png: no image (12 bytes",
        "1 of another size than their image",
        "1.png: the mask is 20x30 and its image 1.png 30x20",
        "1 masks of ambiguous values",
    ):
        assert line in report, line


def test_odd_masks_are_worth_a_look_but_not_wrong(root: Path, capsys: pytest.CaptureFixture[str]):
    write_png(root / "masks" / "0.png", np.zeros((20, 30), np.uint8))
    write_png(root / "masks" / "1.png", np.full((20, 30), 255, np.uint8))
    soft = np.zeros((20, 30), np.uint8)
    soft[:, :3] = 200
    write_png(root / "masks" / "2.png", soft)
    assert main([str(root)]) == 0
    report = capsys.readouterr().out
    assert "1 empty masks\n    0\n" in report.replace("      ", "    ")
    assert "1 full masks" in report
    assert "1 masks that are not binary" in report and "2 (10.0 % of its pixels)" in report


def test_a_list_file_narrows_it(root: Path):
    (root / "images" / "0.png").write_bytes(b"")
    (root / "good.txt").write_text("1\n2.png\n")
    report = check(root, root / "good.txt")
    assert report.is_good and len(report.facts) == 2
    assert main([str(root), "--list", str(root / "good.txt")]) == 0


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_on_user_error(lambda: main([str(tmp_path)])) == 2
    assert "error:" in capsys.readouterr().err


def test_real_data(shared: Path):
    report = check(shared / "datasets" / "ECSSD-250")
    assert report.is_good and len(report.good) == 250
