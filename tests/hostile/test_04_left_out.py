"""Point 4: what a folder holds and is not read is named at the end, counted, and the exit code is 1."""

import os

import pytest

from tests.hostile.conftest import make_image


def test_unreadable_linked_and_unsupported_files(run, photos, tmp_path, capsys):
    (photos / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    make_image(tmp_path / "elsewhere/d.png")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "deep/cycle").symlink_to(photos)
    assert run("--images", photos) == 1
    output = capsys.readouterr()
    assert "broken.jpg" in output.err and "phone.heic" in output.err
    assert (tmp_path / "out/maps/linked/d.png").is_file()
    assert output.out.splitlines()[-1].startswith("4 of 4 images")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder(run, photos, capsys):
    (photos / "deep").chmod(0)
    try:
        assert run("--images", photos) == 1
    finally:
        (photos / "deep").chmod(0o755)
    assert "deep" in capsys.readouterr().err
