"""Cache entries: made once, whole or not at all, checked, bounded, never another process's."""

import os
import subprocess
import sys
import time

import pytest

from inference.engines import cache


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(text):
    return lambda folder: (folder / "file").write_text(text)


def test_an_entry_is_made_once_and_never_half(folder):
    calls = []

    def make(place):
        calls.append(place)
        (place / "file").write_text("whole")

    assert (cache.cached("name", make, ["file"]) / "file").read_text() == "whole"
    assert cache.cached("name", make, ["file"]) == folder / "name" and len(calls) == 1
    (folder / "name" / "file").unlink()  # by a user who frees space
    assert (cache.cached("name", make, ["file"]) / "file").read_text() == "whole" and len(calls) == 2

    def fail(place):
        (place / "file").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.cached("other", fail, ["file"])
    assert {path.name for path in folder.iterdir()} == {"name"}


@pytest.mark.parametrize("damage", ["cut", "changed", "manifest", "file in its place"])
def test_a_damaged_entry_is_made_again_with_a_notice(folder, damage, capsys):
    entry = cache.cached("name", write("content"), ["file"])
    if damage == "cut":
        (entry / "file").write_text("cont")
    elif damage == "changed":
        (entry / "file").write_text("CONTENT")
    elif damage == "manifest":
        (entry / "checksums.json").write_text("[")
    else:
        for path in entry.iterdir():
            path.unlink()
        entry.rmdir()
        entry.write_text("a file")
    assert (cache.cached("name", write("new"), ["file"]) / "file").read_text() == "new"
    assert f"{entry}: is damaged; it is made again" in capsys.readouterr().err


def test_another_process_that_finishes_first_keeps_its_entry(folder):
    """While this one makes the entry, and also where it found a damaged one at the start."""

    def make(place):
        (place / "file").write_text("ours")
        cache.cached("name", write("theirs"), ["file"])

    for damaged in (False, True):
        if damaged:
            (folder / "name" / "file").write_text("damaged")
        assert (cache.cached("name", make, ["file"]) / "file").read_text() == "theirs"
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_the_cache_does_not_grow_without_limit(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 5000)
    for i in range(8):
        entry = cache.cached(f"entry{i}", write("x" * 1000), ["file"])
        before = time.time() - 86400 + i
        os.utime(entry / "checksums.json", (before, before))
    cache.cached("entry4", write("never"), ["file"])  # used again
    cache.cached("last", write("x" * 1000), ["file"])
    kept = {path.name for path in folder.iterdir()}
    assert {"entry4", "entry7", "last"} <= kept and "entry1" not in kept
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 5000


def test_entries_in_use_are_not_removed_and_abandoned_ones_are(folder):
    entry = cache.cached("name", write("x"), ["file"])
    for name, age in ((".fresh.1", 60), (".old.2", 2 * 86400)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    cache.prune(limit=0)
    assert entry.is_dir() and (folder / ".fresh.1").is_dir() and not (folder / ".old.2").exists()


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    code = (
        "from inference.engines import cache; "
        "place = cache.cached('name', lambda folder: (folder / 'made').write_text('x'), ['made']); "
        "cache.store('record', {}); assert cache.record('record') is None; print((place / 'made').read_text())"
    )
    settings = {"AUTO_MSFNET_CACHE": str(tmp_path / "file" / "cache"), "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.stdout == "x\n", done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


def test_records(folder, capsys):
    assert cache.record("name") is None
    cache.store("name", {"a": 1})
    assert cache.record("name") == {"a": 1}
    (folder / "name.json").write_bytes(b"\xff")
    assert cache.record("name") is None and "is damaged; it is made again" in capsys.readouterr().err
