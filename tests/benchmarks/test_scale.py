"""benchmarks/shards.py and scale.py: what they find wrong, what they read of test.py, and their tables."""

import io
import tarfile
from argparse import Namespace

import pytest

from benchmarks import scale, shards
from benchmarks.process_memory import watched
from utils.errors import UserError


def write_shard(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))


@pytest.fixture
def out(tmp_path):
    """Two shards of two maps, whole, and their loose maps."""
    for shard in (0, 1):
        names = [f"{shard:03d}/{index:05d}.png" for index in (0, 1)]
        write_shard(tmp_path / f"maps/shards-{shard:03d}.tar", names)
        for name in names:
            (tmp_path / "loose" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "loose" / name).write_text(name)
    return tmp_path


def test_whole_shards_have_no_faults(out):
    assert list(shards.wrong(out, 2, 2)) == [] and list(shards.different(out, out / "loose", 2)) == []


def test_a_map_that_is_missing_doubled_or_different_is_told(out):
    write_shard(out / "maps/shards-001.tar", ["001/00000.png", "001/00000.png"])
    assert list(shards.wrong(out, 2, 2)) == ["shards-001.tar: 2 maps, 1 of them of its 2 images"]
    assert list(shards.wrong(out, 3, 2))[-1] == "shards-002.tar: is not there"
    assert list(shards.wrong(out, 1, 2)) == ["shards-001.tar: no such shard was read"]
    (out / "loose/000/00001.png").write_text("another map")
    assert list(shards.different(out, out / "loose", 2)) == [
        "shards-000.tar: 1 maps differ from those of the loose files"
    ]


def test_counts_that_do_not_fit_are_refused():
    for words in (["--count", "100", "--shards", "8"], ["--count", "90", "--shards", "9", "--loose", "10"]):
        with pytest.raises(UserError, match=f"--count {words[1]}: .* Give counts so that"):
            shards.parse(words)


def test_the_report_of_shards_tells_what_was_wrong():
    found = shards.Found([100.0, 120.0], [110.0, 110.0], [shards.Moment("first", 4, 800.0)], 4, 60.0, ["a map is lost"])
    options = Namespace(weights="lite", engine="openvino", size=64, loose=20, rounds=2, count=80, shards=8)
    text = shards.report(found, options)
    assert "| shards | 110 | 110 to 110 | 1.000 |" in text and "1 things were wrong then: a map is lost" in text
    assert "every map was there once" not in text
    found.problems.clear()
    assert "every map was there once, in order; the first 20" in shards.report(found, options)


def test_a_command_is_watched_and_its_output_kept():
    seen = []
    code, told = watched(["sh", "-c", "sleep 0.3; echo done; exit 3"], seen.append)
    assert (code, told) == (3, "done\n") and seen and all(len(processes) >= 1 for processes in seen)


def test_the_report_of_scale():
    assert scale.seconds_of("24 of 24 images in 1.2 s, 20.0 images/s -> out/") == 1.2
    with pytest.raises(UserError, match="printed no time"):
        scale.seconds_of("nothing")
    sizes = {"maps": [scale.Size(1, 0.5, 900.0)], "maps and cutouts": [scale.Size(1, 0.75, 1000.0)]}
    options = Namespace(weights="lite", engine="openvino", precision="int8", count=400)
    text = scale.report({1: [scale.Quarter(50.0, 800.0)] * 4}, sizes, options)
    assert "| 1 | 50.0 | 50.0 | 50.0 | 50.0 | 800 | 800 | 800 | 800 |" in text
    assert "| 1 | 0.500 | 900 | 0.750 | 1000 |" in text
    assert len(scale.draw(sizes).axes) == 2
