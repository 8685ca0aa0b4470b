"""Hostile inputs of evaluate.py: paths that overlap, names of any bytes, arrays that lie, kills, closed pipes."""

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import evaluate
from evaluation.map_files import MapError, read_map
from utils.errors import LONGEST, exit_on_user_error
from utils.paths import claim

QUICK = ["--resamples", "20", "--images", "1", "--workers", "1"]
PLAIN = ["--resamples", "0", "--images", "0", "--workers", "1"]


@pytest.fixture
def own(bench, tmp_path):
    """A copy of the bench that a test may change."""
    return shutil.copytree(bench, tmp_path / "bench")


def arguments(bench, out, *more, maps="good"):
    return ["--data", f"A={bench / 'data'}", "--maps", f"m={bench / maps}", "--out", str(out), *more]


def snapshot(folder):
    """Content of every file but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(words, capsys):
    """The one line of a refusal."""
    assert exit_on_user_error(lambda: evaluate.main(words)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("notice")]
    assert line.startswith("error: ") and len(line) < 300
    return line


# Point 1


@pytest.mark.parametrize("link", ["scores", "curves", "sheets"])
def test_an_output_folder_linked_to_inputs_is_refused(own, tmp_path, capsys, link):
    before = snapshot(own)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / link).symlink_to(own / "data/masks")
    assert str(own / "data") in refused(arguments(own, tmp_path / "out", *QUICK), capsys)
    assert snapshot(own) == before


def test_an_output_inside_the_dataset_or_hard_linked_to_a_map_is_refused(own, tmp_path, capsys):
    before = snapshot(own)
    refused(arguments(own, own / "data", *QUICK), capsys)
    (tmp_path / "out").mkdir()
    os.link(min((own / "good").iterdir()), tmp_path / "out/index.html")
    refused(arguments(own, tmp_path / "out", *QUICK), capsys)
    assert snapshot(own) == before


# Point 3


def test_a_second_run_into_one_folder_is_refused(bench, tmp_path):
    code = "import sys, evaluate; from utils.errors import exit_on_user_error as e; sys.exit(e(evaluate.main))"
    with claim(tmp_path):
        command = [sys.executable, "-c", code, *arguments(bench, tmp_path, *PLAIN)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "another run" in done.stderr
    assert snapshot(tmp_path) == {}


# Point 11

NAMES = [
    b"control\x1b[31m", b"latin-\xe9", b"line\nbreak", b'a,"b"', b"<script><b>", b"$x$ _&%", b"tab\t", "é".encode(),
]  # fmt: skip


def test_names_of_any_bytes_never_break_a_file(own, tmp_path):
    for number, new in enumerate(NAMES):
        for folder in ("data/images", "data/masks", "good", "poor"):
            path = sorted((own / folder).glob(f"00000{number}.*"))[0]
            path.rename(path.with_name(os.fsdecode(new) + path.suffix))
    out = tmp_path / "out"
    maps = [f"good={own / 'good'}", f"poor={own / 'poor'}"]
    words = ["--data", f"A={own / 'data'}", "--maps", *maps, "--out", str(out), *QUICK, "--strata", "area"]
    assert evaluate.main(words) == 0
    rows = list(csv.DictReader((out / "scores/A/good.csv").open(encoding="utf-8")))
    scores = json.loads((out / "scores/A/good.json").read_text(encoding="utf-8"))
    assert len({row["name"] for row in rows}) == len(scores["images"]) == len(NAMES)
    assert all(row["name"].isprintable() for row in rows)
    assert "<script><b>" not in (out / "index.html").read_text(encoding="utf-8")


def test_a_method_with_control_characters_is_refused(bench, tmp_path, capsys):
    words = ["--data", f"A={bench / 'data'}", "--maps", f"m\n={bench / 'good'}", "--out", str(tmp_path / "out")]
    assert "control characters" in refused(words, capsys)


# Point 17


def header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }\n") + b"1234",
        header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }\n") + b"12345",
        header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4), }\n") + b"1234",
        header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }\n") + b"cos\nsystem\n.",
        header(b"{'descr': '|u1'}\n"),
        header(b"(" * 9000),
        b"PK\x03\x04 an archive",
        b"",
        b"\x93NUMPY\x09\x09",
    ],
)
def test_arrays_that_lie_are_one_line(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    begin = time.monotonic()
    with pytest.raises(MapError) as told:
        read_map(path)
    assert time.monotonic() - begin < 30, "seconds; what it claims to be would take hours"
    assert str(path) in str(told.value) and len(str(told.value).replace(str(path), "")) < LONGEST


@pytest.mark.parametrize("kind", ["complex64", "M8[s]", "U3", "V4", "longdouble", "i8,f4"])
def test_arrays_of_odd_types_are_one_line(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.zeros((4, 4), kind))
    with pytest.raises(MapError, match=r"a\.npy: .* values are no map. Save 8 bits"):
        read_map(tmp_path / "a.npy")


# Point 19 and 20, and kills


def test_other_sizes_are_refused_by_their_headers_before_any_scoring(own, tmp_path, capsys, monkeypatch):
    np.save(own / "good/000003.npy", np.zeros((10, 12), np.uint8))
    (own / "good/000003.png").unlink()
    monkeypatch.setattr("evaluation.methods.score_maps", None)
    line = refused(arguments(own, tmp_path / "out", *QUICK), capsys)
    assert "1 of 8 maps have another size than their mask: 000003 (12 x 10, its mask 64 x 64)" in line


def test_a_closed_pipe_is_no_traceback(root, bench, tmp_path):
    command = [sys.executable, "evaluate.py", *arguments(bench, tmp_path / "out", *PLAIN)]
    running = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.close()
    told = running.stderr.read().decode()
    assert running.wait(120) == 1
    assert "Traceback" not in told and "BrokenPipe" not in told
    assert (tmp_path / "out/index.html").is_file()


def test_a_full_disk_is_one_line(bench, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert "No space left on device" in refused(arguments(bench, tmp_path / "out", *PLAIN), capsys)
