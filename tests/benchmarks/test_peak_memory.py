"""benchmarks/peak_memory.py: a small run of it, its limits, and what it takes from the readings."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import peak_memory
from benchmarks.peak_memory import Reading
from tests.programs import Program


def test_a_small_run_writes_the_table(tmp_path, monkeypatch, capsys, tiny_weights):
    monkeypatch.chdir(tmp_path)
    runs = []

    def forked(command, **_):
        """A run of test.py, whose peak begins at what it has imported."""
        runs.append(Program("test.py", *command[2:], merged=True))
        return runs[-1]

    own = SimpleNamespace(Popen=forked, run=subprocess.run, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(peak_memory, "subprocess", own)
    monkeypatch.setattr(peak_memory, "_SCENES", 4)
    code = peak_memory.main(["--count", "24", "--megapixels", "[1]", "--weights", str(tiny_weights)])
    assert [each.communicate(0)[0].count("out") for each in runs], "they have ended"
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(record["many"]) == ["4", "8", "16", "24"] and code in (0, 1)
    assert 50 < record["many"]["4"] <= record["many"]["24"] <= record["end"] < 2000
    assert 10 < record["claim"] < peak_memory.CLAIM_LIMIT and record["megapixels"]["1"] > record["claim"]
    text = (tmp_path / "runs/benchmarks/peak_memory.md").read_text()
    assert "| 24 |" in text and "| 1 megapixels, overlay and cutout |" in text


def test_readings_at_shares_are_the_first_that_have_them():
    found = [Reading(0, 5.0), Reading(2, 6.0), Reading(4, 7.0), Reading(9, 8.0), Reading(12, 9.0), Reading(12, 9.5)]
    assert peak_memory.at_shares(found, 12) == [Reading(2, 6.0), Reading(4, 7.0), Reading(8, 8.0), Reading(12, 9.0)]


@pytest.mark.parametrize(
    ("last", "large", "claim", "told"),
    [
        (100.0, 1100.0, 200.0, []),
        (115.0, 1100.0, 200.0, ["12 images: 15 MB over 4 images"]),
        (100.0, 1300.0, 200.0, ["25 megapixels: 1300 MB, limit 1200 MB"]),
        (100.0, 1100.0, 400.0, ["wrong header: 400 MB, limit 300 MB"]),
    ],
)
def test_what_exceeds_a_limit_is_named(last, large, claim, told):
    many = [Reading(2, 90.0), Reading(4, 100.0), Reading(8, 100.0), Reading(12, last)]
    assert peak_memory.problems(many, {25: large, 7: 9999.0}, claim) == told
