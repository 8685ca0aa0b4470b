"""Which maps a resumed run keeps: those of the same conditions, made from the same content, and whole."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.image_io import write_png
from inference.manifest import NAME, Entry, Identity, Manifest, ManifestError, is_whole_png, record, remove_outputs
from inference.tasks import Outputs, Task

CONDITIONS = {"weights": "0" * 64, "sizes": [256], "engine": "torch", "precision": "fp32"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("png") / "whole.png"
    write_png(path, np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    return path.read_bytes()


@pytest.fixture
def made(tmp_path, whole):
    """Tasks a, b, c with their maps and manifest."""
    outputs = Outputs(tmp_path / "out")
    tasks = []
    for name in "abc":
        image = tmp_path / "in" / f"{name}.jpg"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(name.encode() * 10)
        tasks.append(Task(name, image, f"{name}.jpg"))
    Manifest(outputs.folder, CONDITIONS).begin(tasks, set())
    write_all(tasks, outputs, whole)
    return tasks, outputs


def write_all(tasks, outputs, content):
    with (outputs.folder / NAME).open("a") as log:
        for task in tasks:
            path = outputs.path(task, "maps")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            record(log, task, Identity.of(task.image), outputs)


def kept(tasks, outputs, conditions=CONDITIONS):
    return Manifest(outputs.folder, conditions).kept(tasks, outputs)


def test_all_that_is_the_same_is_kept(made):
    assert kept(*made) == {"a", "b", "c"}


@pytest.mark.parametrize("key", CONDITIONS)
def test_other_conditions_keep_nothing(made, key):
    tasks, outputs = made
    changed = CONDITIONS | {key: "other"}
    assert kept(tasks, outputs, changed) == set()
    assert Manifest(outputs.folder, changed).changed[0].startswith(f"{key} ")


def test_a_changed_byte_counts_even_with_the_old_time(made):
    tasks, outputs = made
    status = tasks[0].image.stat()
    tasks[0].image.write_bytes(b"A" + tasks[0].image.read_bytes()[1:])
    os.utime(tasks[0].image, ns=(status.st_atime_ns, status.st_mtime_ns))
    tasks[1].image.unlink()
    assert kept(tasks, outputs) == {"c"}


def test_moved_copied_and_touched_inputs_are_the_same(made, tmp_path):
    tasks, outputs = made
    shutil.copytree(tmp_path / "in", tmp_path / "elsewhere")
    moved = [Task(task.name, tmp_path / "elsewhere" / task.image.name, task.source) for task in tasks]
    shutil.move(outputs.out, tmp_path / "moved")
    assert kept(moved, Outputs(tmp_path / "moved")) == {"a", "b", "c"}


def test_cut_replaced_and_missing_maps_are_made_again(made, whole):
    tasks, outputs = made
    outputs.path(tasks[0], "maps").write_bytes(whole[:50])
    write_png(outputs.path(tasks[1], "maps"), np.zeros((3, 3), np.uint8))
    outputs.path(tasks[2], "maps").unlink()
    assert kept(tasks, outputs) == set()
    assert kept(tasks, Outputs(outputs.out, ("maps", "cutout"))) == set()


def test_a_line_that_a_killed_run_left_incomplete_is_ignored(made):
    tasks, outputs = made
    path = outputs.folder / NAME
    path.write_bytes(path.read_bytes()[:-30])
    assert kept(tasks, outputs) == {"a", "b"}


@given(st.binary(max_size=200))
def test_a_damaged_manifest_keeps_nothing_and_never_fails(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / NAME).write_bytes(content)
    assert Manifest(folder, CONDITIONS).kept([Task("a", folder / "a.jpg", "a.jpg")], Outputs(folder)) == set()


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../x"])
def test_entries_outside_the_folder_are_ignored(made, name):
    line = Entry(name, "a.jpg", Identity(1, (1, 1), "0"), {"maps": 1}).line()
    assert Entry.read(line) is None and Entry.read(json.dumps({"name": "a"})) is None


def test_outputs_under_an_earlier_name_are_stale(made, tmp_path):
    """`a.png` joined `a.jpg`: both outputs keep their suffix, and `a.png` of the first run must go."""
    tasks, outputs = made
    (tmp_path / "in/a.png").write_bytes(b"x")
    now = [Task(f"a.{end}", tmp_path / f"in/a.{end}", f"a.{end}") for end in ("jpg", "png")] + tasks[1:]
    manifest = Manifest(outputs.folder, CONDITIONS)
    assert [task.name for task in manifest.stale(now)] == ["a"]
    remove_outputs(manifest.stale(now), outputs)
    manifest.begin(now, {"b"})
    assert not outputs.path(tasks[0], "maps").exists() and outputs.path(tasks[1], "maps").exists()
    assert set(Manifest(outputs.folder, CONDITIONS).entries) == {"b"}


def test_half_written_files_are_removed(made):
    tasks, outputs = made
    for place in (outputs.out / ".results.7.part.json", outputs.out / "maps/.a.7.part.png"):
        place.write_bytes(b"half")
    outputs.remove_parts()
    assert {path.name for path in outputs.out.rglob(".*")} == set()
    assert all(outputs.path(task, "maps").exists() for task in tasks)


def test_a_folder_at_the_name_of_a_map(made):
    tasks, outputs = made
    outputs.path(tasks[0], "maps").unlink()
    outputs.path(tasks[0], "maps").mkdir()
    with pytest.raises(ManifestError, match=r"maps/a\.png: is a folder; an output goes there\. Choose another --out"):
        remove_outputs(tasks, outputs)


@given(length=st.floats(0, 1, exclude_max=True))
def test_a_cut_map_is_not_whole(whole, tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut.png"
    path.write_bytes(whole[: int(length * len(whole))])
    assert not is_whole_png(path)
    path.write_bytes(whole)
    assert is_whole_png(path)


def test_other_files_are_not_whole_maps(tmp_path):
    (tmp_path / "text.png").write_text("no image, but long enough to have a head and an end" * 3)
    assert not is_whole_png(tmp_path / "text.png")
    assert not is_whole_png(tmp_path / "missing.png")
    assert not is_whole_png(tmp_path)
