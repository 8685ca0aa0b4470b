"""What a message says about a path that is not there."""

from pathlib import Path

from settings.paths import hint


def test_a_name_that_is_alike_is_offered(tmp_path):
    (tmp_path / "ECSSD/images").mkdir(parents=True)
    assert hint(tmp_path / "ECSD/images") == f"Did you mean {tmp_path}/ECSSD?"
    assert hint(tmp_path / "ECSSD/image") == f"Did you mean {tmp_path}/ECSSD/images?"


def test_else_the_part_that_is_missing_is_named(tmp_path, monkeypatch):
    assert hint(tmp_path / "DUTS/masks/x") == f"Check the path: {tmp_path} has no DUTS."
    monkeypatch.chdir(tmp_path)
    assert hint(Path("photos")) == f"Check the path: {tmp_path} has no photos."


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert hint(tmp_path / "a.jpg") == "It is a file. Give a folder."
    assert hint(tmp_path / "a.jpg/b") == f"Did you mean {tmp_path}/a.jpg?"
