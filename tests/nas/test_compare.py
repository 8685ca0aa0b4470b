"""Comparison of genotypes: end to end at a tiny scale, going on, refusals, and the numbers of the report."""

import json
import re

import pytest
import torch

from data.synthetic import write_scenes
from inference.weights import load_checkpoint
from nas import compare
from nas.results import Result, write_results
from net.genotype import load
from utils.errors import UserError

SEARCH = """
space: {encoder: mobilenetv3_small_050, channels: 16, operations: [none, skip_connect, conv_3x3, SpatialAttention]}
data: {size: 64, workers: 0}
architect: {lr: 0.1, warmup: 0.0}
epochs: 1
batch: 4
device: cpu
precision: fp32
watch: {gap_batches: 0}
"""
TRAIN = """
data: {root: x, size: 64, workers: 0}
epochs: 1
batch: 4
device: cpu
precision: fp32
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_scenes(folder / "data", 16, 40, seed=0)
    write_scenes(folder / "benchmark", 3, 40, seed=1)
    (folder / "search.yaml").write_text(SEARCH)
    (folder / "train.yaml").write_text(TRAIN)
    return [
        "--data", str(folder / "data"), "--search", str(folder / "search.yaml"), "--train", str(folder / "train.yaml"),
        "--benchmarks", json.dumps({"Scenes": str(folder / "benchmark")}), "--pictures", "12", "--held_out", "4",
        "--search_seeds", "[0]", "--random_seeds", "[0]", "--published", "[]", "--train_seeds", "[0]",
        "--encoder_weights", "none", "--out", str(folder / "out"),
    ], folder / "out"  # fmt: skip


def test_it_compares_and_does_nothing_twice(arguments, monkeypatch):
    given, out = arguments
    assert compare.main(given) == 0
    rows = json.loads((out / "compare.json").read_text())["results"]
    assert [row["group"] for row in rows] == ["random", "searched"]
    assert all(set(row["scores"]) == {"held-out", "Scenes"} and row["parameters"] > 1000 for row in rows)
    assert "| random 0 | 0 |" in (out / "compare.md").read_text() and (out / "compare.svg").is_file()
    names = (out / "pictures.txt").read_text().split()
    assert len(names) == 12
    monkeypatch.setattr(compare.subprocess, "run", lambda *a, **k: pytest.fail("run again"))
    assert compare.main(given) == 0
    assert compare.main([*given, "--train_seeds", "[]", "--earlier", str(out / "compare.json")]) == 0
    with pytest.raises(UserError, match=r"pictures\.txt \("):  # a smaller draw: what is finished was another run
        compare.main([*given, "--pictures", "11"])
    with pytest.raises(UserError, match="variants: 'random' is the name of another group"):
        compare.main([*given, "--variants", '{"random": ""}'])
    with pytest.raises(UserError, match="pictures is 12 there and 11 here"):
        compare.main([*given, "--pictures", "11", "--earlier", str(out / "compare.json")])
    with pytest.raises(UserError, match=r"was run with '0' where it is|was run with .* where it is"):
        compare.main([*given, "--encoder_weights", "other.pt"])


def test_searches_vote_and_run_side_by_side(arguments, monkeypatch):
    given, out = arguments
    more = ["--search_seeds", "[0, 1]", "--consensus", '["searched"]', "--jobs", "2", "--train_seeds", "[]"]
    assert compare.main([*given, *more]) == 0
    voted = load(out / "genotypes" / "searched-consensus.json")
    assert voted.provenance["mean of"] == ["searched_0", "searched_1"]
    rows = [load_checkpoint(out / "searches" / f"searched_{seed}" / "last.pt")["history"] for seed in (0, 1)]
    means = torch.tensor([row[-1]["probabilities"] for row in rows]).mean(0)[:, 1:].max(1).values  # but for `none`
    assert voted.provenance["weights"] == pytest.approx(means.tolist(), abs=1e-4)
    with pytest.raises(UserError, match="consensus: 'other' is none of the variants"):
        compare.main([*given, "--consensus", '["other"]'])


def test_a_genotype_from_another_space_is_refused(arguments):
    given, out = arguments
    path = out / "searches" / "searched_0" / "genotype.json"
    before = path.read_text()
    path.write_text(before.replace('"conv_3x3"', '"dil_conv_3x3"').replace('"SpatialAttention"', '"dil_conv_3x3"'))
    with pytest.raises(UserError, match="comes from another space"):
        compare.main(given)
    path.write_text(before)


def test_a_run_that_fails_is_told_by_its_last_line(tmp_path):
    with pytest.raises(UserError, match=r"search.py ended with code 2: .*many"):
        compare.run_once(tmp_path, ["search.py", "--batch", "many"])
    assert not (tmp_path / "finished.json").exists()


def test_too_few_pictures_are_refused(arguments):
    with pytest.raises(UserError, match=r"99 pictures to train on and 4 held out are 103; it has 16"):
        compare.main([*arguments[0], "--pictures", "99"])


def test_the_report_has_mean_spread_and_every_point(tmp_path):
    results = [
        Result(group, name, seed, 2_000_000, 0.5, {"held-out": {"wfm": value, "mae": 0.1}})
        for group, name, seed, value in [("random", "0", 0, 0.6), ("random", "0", 1, 0.8), ("searched", "0", 0, 0.9)]
    ]
    write_results(tmp_path, results, ["held-out"], "What it is.")
    text = (tmp_path / "compare.md").read_text()
    assert "| random | 2 | 2.00 | 0.50 | 0.7000 ± 0.1414 (0.6000 to 0.8000) |" in text
    assert len(re.findall(r"^\| (random|searched) 0 \|", text, re.MULTILINE)) == 3
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_compares_with_random_cells_genotype_by_genotype(tmp_path):
    """Random genotypes have means .7 and .5, so .6 ± .1; two trainings of the first differ by .1414."""
    trained = [("random", "0", 0.6), ("random", "0", 0.8), ("random", "1", 0.5), ("searched", "0", 0.9)]
    results = [
        Result(group, name, seed, 2_000_000, 0.5, {"held-out": {"wfm": value, "mae": 0.1}})
        for seed, (group, name, value) in enumerate(trained)
    ]
    write_results(tmp_path, results, ["held-out"], "What it is.")
    text = (tmp_path / "compare.md").read_text()
    assert "| searched | +0.3000 ± 0.1000 |" in text
    assert "| between trainings of one genotype | 0.1414 |" in text
