"""Point 11: names of any bytes pair, are searched and are shown; nothing fails on a name."""

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data.check import main as check_main
from data.datasets import fingerprint
from data.image_io import read_image, write_png
from data.layouts import LayoutError, find_images, find_pairs
from utils.errors import exit_on_user_error

LOCKED = "folder cannot be read (Permission denied)"
MASK = np.zeros((8, 9), np.uint8)
MASK[2:5, 3:6] = 255
IMAGE = np.full((8, 9, 3), 90, np.uint8)


def dataset(root: Path, images: list[bytes], masks: list[bytes] | None = None) -> Path:
    for folder, names, array in (("images", images, IMAGE), ("masks", masks or images, MASK)):
        for name in names:
            write_png(root / folder / os.fsdecode(name + b".png"), array)
    return root


@pytest.mark.parametrize(
    "names",
    [
        ["照片1".encode("gbk"), "照片2".encode("gbk")],
        ["Muñoz".encode("latin-1"), "Peña".encode("latin-1")],
        ["my photo 😀".encode(), "照片".encode()],
        [b"red\x1b[31mname", b"line\nbreak", b"tab\t"],
        [b"a.b.c", b"100%d", b"10:30", b"-dash"],
        [b"n" * 251, b"m" * 251],
    ],
    ids=["gbk", "latin", "emoji", "control", "marks", "255 bytes"],
)
def test_names_of_any_bytes(tmp_path: Path, names: list[bytes], capsys: pytest.CaptureFixture[str]):
    root = dataset(tmp_path, names)
    pairs = find_pairs(root)
    assert sorted(os.fsencode(pair.name) for pair in pairs) == sorted(names)
    assert all(read_image(pair.image).shape == IMAGE.shape for pair in pairs)
    assert len(fingerprint(pairs)) == 16
    assert len(find_images(root / "images").files) == len(names)
    (root / "images" / os.fsdecode(names[0] + b".png")).write_bytes(b"broken")
    assert check_main([str(root)]) == 1
    assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)


@pytest.mark.parametrize("names", [[b"caf\xe9"], ["照片".encode("gbk"), b"plain"]])
def test_a_list_file_of_such_names(tmp_path: Path, names: list[bytes]):
    root = dataset(tmp_path, [*names, b"other"])
    (root / "list.txt").write_bytes(b"\n".join(names) + b"\n")
    assert [os.fsencode(pair.name) for pair in find_pairs(root, root / "list.txt")] == sorted(names)


def test_composed_and_decomposed_names_pair(tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = dataset(tmp_path, [composed.encode()], [decomposed.encode()])
    (pair,) = find_pairs(root)
    assert pair.name == composed and pair.mask.stem == decomposed
    (root / "list.txt").write_text(decomposed)
    assert len(find_pairs(root, root / "list.txt")) == 1


def test_a_shared_ending_of_masks(tmp_path: Path):
    root = dataset(tmp_path, [b"a", b"b"], [b"a_mask", b"b_mask"])
    assert [(pair.name, pair.mask.stem) for pair in find_pairs(root)] == [("a", "a_mask"), ("b", "b_mask")]


def test_errors_escape_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "red\x1b[31m.png").write_bytes(b"no image")

    def program() -> int:
        read_image(tmp_path / "red\x1b[31m.png")
        return 0

    assert exit_on_user_error(program) == 2
    told = capsys.readouterr().err
    assert r"red\x1b[31m.png" in told and "\x1b" not in told


def test_what_a_search_leaves_out_is_named(tmp_path: Path):
    write_png(tmp_path / "a.png", IMAGE)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    found = find_images(tmp_path)
    assert [file.name for file in found.files] == ["a.png"]
    assert [(problem.path.name, problem.reason) for problem in found.problems] == [
        ("broken.jpg", "broken link"),
        ("phone.HEIC", "heic files are not supported (`pip install pillow-heif`)"),
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(LayoutError, match=r"holds no image.*Left out: .*broken\.jpg: broken link"):
        find_images(tmp_path)


def test_links_to_folders_are_followed_once(tmp_path: Path):
    outside = tmp_path / "outside"
    write_png(outside / "b.png", IMAGE)
    inside = tmp_path / "inside"
    write_png(inside / "a.png", IMAGE)
    (inside / "link").symlink_to(outside)
    (inside / "again").symlink_to(outside)
    (outside / "cycle").symlink_to(inside)
    found = find_images(inside)
    assert sorted(file.name for file in found.files) == ["a.png", "b.png"] and not found.problems


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_is_named(tmp_path: Path):
    write_png(tmp_path / "a.png", IMAGE)
    write_png(tmp_path / "locked" / "b.png", IMAGE)
    (tmp_path / "locked").chmod(0)
    try:
        found = find_images(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert [str(problem) for problem in found.problems] == [
        f"{tmp_path / 'locked'}: folder cannot be read (Permission denied)"
    ]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_png(tmp_path / "a.png", IMAGE)
    (tmp_path / "locked").mkdir()
    listed = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    problems = find_images(tmp_path).problems
    assert [str(problem) for problem in problems] == [
        f"{tmp_path / 'locked'}: folder cannot be read (Permission denied)"
    ]


def test_a_dataset_with_files_left_out_is_refused(tmp_path: Path):
    root = dataset(tmp_path, [b"a", b"b"])
    (root / "images" / "c.png").symlink_to(root / "nowhere")
    with pytest.raises(LayoutError, match=r"1 left out \(.*c\.png: broken link\)"):
        find_pairs(root)
    (root / "list.txt").write_text("a\nb\n")
    assert len(find_pairs(root, root / "list.txt")) == 2
