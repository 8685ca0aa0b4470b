"""Killed programs: the same command then ends with the files of a whole run. `benchmarks/kills.py` kills more often."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.kills import cases, contents, kill, write_inputs


@pytest.mark.parametrize("name", ["test.py", "train.py", "search.py", "evaluate.py", "export.py"])
def test_a_killed_program_is_completed_by_the_same_command(name, tiny_weights, tmp_path):
    write_inputs(tmp_path, 6)
    case = cases(tmp_path, str(tiny_weights))[name]
    if name == "search.py":  # most of an epoch is its drawings: three steps and one save in one epoch
        more = ("--epochs", "1", "--architect.warmup", "0", "--batch", "1")
        case = replace(case, arguments=(*case.arguments, *more))
    found = kill(case, tmp_path, 1, np.random.default_rng(7))
    assert found.kills == 1 and found.files
    assert (found.damaged, found.failed, found.different) == ([], 0, [])


def test_what_is_not_whole_or_not_the_same_is_seen(tmp_path):
    (tmp_path / "a.json").write_text('{"seconds": 1, "maps": [{"name": "a", "time": 2}]}')
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    (tmp_path / "c.html").write_text("<html>")
    (tmp_path / "d.csv").write_text("1")
    before = contents(tmp_path)
    assert [name for name, content in before.items() if content is None] == ["b.png", "c.html"]
    (tmp_path / "a.json").write_text('{"seconds": 5, "maps": [{"name": "a", "time": 3}]}')
    assert contents(tmp_path) == before
    (tmp_path / "a.json").write_text('{"seconds": 1, "maps": [{"name": "b", "time": 2}]}')
    (tmp_path / "d.csv").write_text("2")
    after = contents(tmp_path)
    assert [name for name in before if before[name] != after[name]] == ["a.json", "d.csv"]
