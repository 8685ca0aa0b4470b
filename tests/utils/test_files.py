"""Half-written files of killed runs: what is removed, and what is not ours."""

import os

import pytest

from utils.files import part_of, remove_parts


def make(folder, *places):
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(b"half")


def left(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_half_written_files_go(tmp_path):
    ours = (".a.7.part.png", ".results.123.part", "maps/deep/.b.9.part.png")
    others = (".a.part.png", ".a.7.part.png.txt", "a.7.part.png", "photos/.b.9.part.png")
    make(tmp_path, *ours, *others)
    make(part_of(tmp_path / "lite.onnx"), "lite.onnx")  # a folder
    remove_parts(tmp_path, ["maps", "missing"])
    assert left(tmp_path) == set(others)


@pytest.mark.parametrize("stem", ["cat", "a.b [1]", "é" * 120])
def test_in_a_shared_folder_only_those_of_one_file_go(tmp_path, stem):
    mine, others = part_of(tmp_path / f"{stem}.png").name, {".dog.7.part.png", ".catalogue.7.part.png"}
    make(tmp_path, mine, *others)
    assert len(os.fsencode(mine)) < 256
    remove_parts(tmp_path, stem=stem)
    assert left(tmp_path) == others
