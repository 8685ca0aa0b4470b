"""The benchmark of --smooth: it runs on any dataset, and the committed table keeps its promise."""

import json
import re

from benchmarks import video_smooth
from data.synthetic import write_scenes


def test_the_benchmark_on_generated_scenes(tiny_weights, tmp_path, monkeypatch, capsys):
    root = write_scenes(tmp_path / "scenes", 2, 64)
    monkeypatch.chdir(tmp_path)
    words = ["--data", f"scenes={root}", "--weights", str(tiny_weights), "--images", "2", "--frames", "3"]
    assert video_smooth.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["flicker_and_error"]) == {"pan", "zoom", "shake", "object"}
    for ways in found["flicker_and_error"].values():
        assert ways["smooth"][0] < ways["alone"][0]
    text = (tmp_path / "runs/benchmarks/video_smooth.md").read_text()
    assert "2 images each of scenes, clips of 3 frames" in text and "| all | 8 |" in text


def test_the_committed_table_keeps_the_promise(root):
    text = (root / "benchmarks/video_smooth.md").read_text()
    (row,) = re.findall(r"\| all \|(.*)\|", text)
    cells = [cell.strip().split()[0] for cell in row.split("|")]
    assert float(cells[4]) <= 0.5, "flicker at least halved"
    assert float(cells[8]) <= 0, "error not raised"
