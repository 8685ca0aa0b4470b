"""benchmarks/evaluation.py: the last line, the files, the check of equality."""

import json

import pytest

from benchmarks import evaluation
from utils.errors import UserError


def test_generated_scenes(tmp_path, capsys):
    arguments = ["--count", "6", "--rounds", "1", "--workers", "2", "--out", str(tmp_path)]
    with pytest.warns(Warning):  # the library's deprecated names
        assert evaluation.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["maps"] == 6
    assert figures["speedup"] == pytest.approx(figures["seconds"]["library"] / figures["seconds"]["pool"])
    assert figures["largest_difference"] <= 1e-9
    assert "| pool | " in (tmp_path / "evaluation.md").read_text()


@pytest.mark.filterwarnings("ignore")
def test_other_numbers_are_noticed(bench, monkeypatch):
    known = evaluation.by_us
    monkeypatch.setattr(evaluation, "by_us", lambda scores: known(scores) | {"sm": known(scores)["sm"] + 2e-9})
    arguments = ["--data", str(bench / "data"), "--maps", str(bench / "good"), "--rounds", "1"]
    assert evaluation.main(arguments) == 1


def test_half_a_request(tmp_path):
    with pytest.raises(UserError, match="--data and --maps go together"):
        evaluation.main(["--data", str(tmp_path)])
    with pytest.raises(UserError, match="--workers 1: at least 2"):
        evaluation.main(["--workers", "1"])
