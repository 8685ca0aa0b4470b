"""Comparison of genotypes: end to end at a tiny scale, resuming, refusals, and the numbers of the report."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.synthetic import write_scenes
from nas import compare
from nas.compare_settings import CompareConfig
from nas.evidence import Training, add_trainings, genotypes_of, read_mixtures, read_trainings
from nas.genotype_space import dilated, names_of, without_dilation
from nas.results import Result, write_results
from nas.settings import SearchConfig
from net.derive import random_genotype
from net.genotype import load
from settings.parser import parse
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

pytestmark = pytest.mark.slow

SEARCH = """
space: {encoder: test_efficientnet, channels: 16, operations: [none, skip_connect, conv_3x3, SpatialAttention]}
data: {size: 64, workers: 0}
architect: {lr: 0.1, warmup: 0.0}
epochs: 1
batch: 4
device: cpu
precision: fp32
watch: {gap_batches: 0}
"""
SPACE = ["--space.encoder", "test_efficientnet", "--space.channels", "16", "--space.operations",
         '["none", "skip_connect", "conv_3x3", "SpatialAttention"]']  # fmt: skip
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
        "--benchmarks", json.dumps({"ECSSD": str(folder / "benchmark")}), "--images", "12", "--held-out", "4",
        "--search-seeds", "[0]", "--random-seeds", "[0]", "--published", "[]", "--train-seeds", "[0]",
        "--encoder-weights", "none", "--evidence", str(folder / "evidence"), "--out", str(folder / "out"),
    ], folder / "out"  # fmt: skip


def finished(out):
    """Time stamps of all runs that are finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/*/finished.json")}


def test_it_compares_and_does_nothing_twice(arguments, forked_runs):
    given, out = arguments
    assert compare.main(given) == 0
    rows = json.loads((out / "compare.json").read_text())["results"]
    assert [row["group"] for row in rows] == ["random", "searched"]
    assert all(set(row["scores"]) == {"held-out", "ECSSD"} and row["parameters"] > 1000 for row in rows)
    assert "| random 0 | 0 |" in (out / "compare.md").read_text() and (out / "compare.svg").is_file()
    assert len((out / "images.txt").read_text().split()) == 12
    before = finished(out)
    assert len(before) == 3
    folder = next((out / "trainings").glob("random_0_0-*"))
    folder.rename(folder.with_name("renamed"))
    assert compare.main(given) == 0
    after = finished(out)
    assert after.pop("renamed") == before.pop(folder.name) and after == before, "nothing ran again"
    assert compare.main([*given, "--train-seeds", "[]", "--earlier", str(out / "compare.json")]) == 0


def test_the_evidence_has_a_row_for_each_training(arguments):
    given, out = arguments
    evidence = out.parent / "evidence"
    rows = {row.group: row for row in read_trainings(evidence)}
    assert rows.keys() == {"random", "searched"}
    assert (rows["random"].search_seed, rows["searched"].search_seed) == (None, 0)
    results = {one["group"]: one for one in json.loads((out / "compare.json").read_text())["results"]}
    for group, row in rows.items():
        assert row.wfm_validation == pytest.approx(results[group]["scores"]["held-out"]["wfm"], abs=1e-6)
        assert row.wfm_ecssd == pytest.approx(results[group]["scores"]["ECSSD"]["wfm"], abs=1e-6)
        assert row.wfm_duts is None and row.dilated == 0
    genotypes = genotypes_of(evidence)
    assert genotypes["random", "0"] == load(out / "genotypes" / "random_0.json")
    with pytest.raises(UserError, match=r"budget.json: epochs is 1 there and 2 here"):
        compare.main([*given, "--train", str(out.parent / "longer.yaml")])


def test_a_training_that_the_evidence_has_is_not_repeated_elsewhere(arguments, tmp_path, forked_runs):
    """Another machine begins with the committed table: it trains the random cells of seed 1 alone."""
    given, out = arguments
    table = (out.parent / "evidence" / "trainings.csv").read_text()
    shutil.copytree(out.parent / "evidence", tmp_path / "evidence")
    more = ["--random-seeds", "[0, 1]", "--variants", "{}", "--evidence", str(tmp_path / "evidence")]
    assert compare.main([*given, *more, "--out", str(tmp_path / "out")]) == 0
    assert [folder.name[:10] for folder in (tmp_path / "out" / "trainings").iterdir()] == ["random_1_0"]
    after = (tmp_path / "evidence" / "trainings.csv").read_text()
    assert after.startswith(table) and len(after.splitlines()) == len(table.splitlines()) + 1


def test_a_search_that_the_evidence_has_is_not_repeated_elsewhere(arguments, tmp_path, forked_runs):
    """Another machine begins with the committed searches; only seed 1 is searched, and nothing is trained."""
    given, out = arguments
    before = (out.parent / "evidence" / "searches.csv").read_text()
    assert before.startswith("group,search_seed,key\nsearched,0,") and len(before.splitlines()) == 2
    shutil.copytree(out.parent / "evidence", tmp_path / "evidence")
    more = ["--search-seeds", "[0, 1]", "--searches-only", "true", "--evidence", str(tmp_path / "evidence")]
    assert compare.main([*given, *more, "--out", str(tmp_path / "out")]) == 0
    assert [folder.name[:10] for folder in (tmp_path / "out" / "searches").iterdir()] == ["searched_1"]
    assert not list((tmp_path / "out" / "trainings").glob("*"))
    assert load(tmp_path / "out" / "genotypes" / "searched_0.json") == load(out / "genotypes" / "searched_0.json")
    after = (tmp_path / "evidence" / "searches.csv").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 3
    assert (tmp_path / "evidence" / "trainings.csv").read_text() == (
        out.parent / "evidence" / "trainings.csv"
    ).read_text()


def test_effects_learns_from_the_random_cells_of_the_evidence_alone(arguments, tmp_path, forked_runs):
    given, out = arguments
    evidence = tmp_path / "evidence"
    shutil.copytree(out.parent / "evidence", evidence)
    pool = {("random", str(seed)): random_genotype(parse(SearchConfig, "", SPACE).space, seed) for seed in range(1, 10)}
    rows = [Training(*key, None, 0, 0.01, 0, 0.5 + 0.01 * seed, None, None) for seed, key in enumerate(pool)]
    add_trainings(evidence, rows, pool, json.loads((evidence / "budget.json").read_text()))
    more = ["--searches-only", "true", "--evidence", str(evidence), "--out", str(tmp_path / "out")]
    effects = ["--variants", '{"learnt": "--strategy effects --space.partial 1"}']
    assert compare.main([*given, *more, *effects]) == 0
    found = load(evidence / "genotypes" / "learnt_0.json").provenance
    assert found["strategy"] == "effects" and "of 10 trained genotypes" in found["reason"]
    assert [row.group for row in read_trainings(tmp_path / "out" / "pool" / "random")] == ["random"] * 10
    others = [Training("learnt", "0", 0, 0, 0.01, 0, 0.9, None, None), replace(rows[0], training_seed=1)]
    add_trainings(evidence, others, {
        ("learnt", "0"): load(evidence / "genotypes" / "learnt_0.json"), **pool
    }, json.loads((evidence / "budget.json").read_text()))  # fmt: skip
    shutil.rmtree(tmp_path / "out")
    assert compare.main([*given, *more, *effects]) == 0
    assert not list((tmp_path / "out" / "searches").glob("*/genotype.json")), (
        "other rows do not change what it learns from"
    )
    without = given[: given.index("--evidence")] + given[given.index("--evidence") + 2 :]
    with pytest.raises(UserError, match="strategy effects learns from the trainings there. Give --evidence"):
        compare.main([*without, "--out", str(tmp_path / "new"), "--searches-only", "true", *effects])


@pytest.fixture(autouse=True)
def longer(arguments):
    (arguments[1].parent / "longer.yaml").write_text(TRAIN.replace("epochs: 1", "epochs: 2"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--variants", '{"random": ""}'], "variants: 'random' is the name of another group"),
        (["--images", "11"], "images is 12 there and 11 here"),
        (["--train", "longer.yaml"], "epochs is 1 there and 2 here"),
        (["--encoder-weights", "other.pt"], "encoder_weights is none there and other.pt here"),
        (["--benchmarks", "more"], "random 0 has no scores on Other, only on held-out, ECSSD"),
        (["--consensus", '["other"]'], "consensus: 'other' is none of the variants"),
        (["--images", "99"], "99 images to train on and 4 held out are 103; it has 16"),
        (["--undilated", '["searched"]'], "undilated: 'searched', expected random, published, or a genotype"),
    ],
)
def test_what_is_not_comparable_is_refused_before_anything_runs(arguments, capsys, more, message):
    given, out = arguments
    given = given[: given.index("--evidence")] + given[given.index("--evidence") + 2 :]
    before = finished(out)
    if more[0] == "--train":
        more = ["--train", str(out.parent / more[1])]
    if more[1] == "more":
        path = json.loads((out / "compare.json").read_text())
        path["budget"]["scored"]["Other"] = path["budget"]["scored"]["ECSSD"]
        (out.parent / "edited.json").write_text(json.dumps(path))
        folder = str(out.parent / "benchmark")
        more = ["--benchmarks", json.dumps({"ECSSD": folder, "Other": folder})]
    earlier = out.parent / "edited.json" if "Other" in more[-1] else out / "compare.json"
    with pytest.raises(UserError, match=message):
        compare.main([*given, "--earlier", str(earlier), *more])
    assert finished(out) == before


@pytest.mark.parametrize("text", ["{", "[1]", '{"ECSSD": 1}', '{"ECSSD": {"files": "a"}}', "[" * 100_000])
def test_damaged_scores_are_made_again_with_a_notice(tmp_path, capsys, text):
    path = tmp_path / "scores.json"
    assert compare.scores_in(path) == {}
    path.write_text(text, "utf-8")
    assert compare.scores_in(path) == {} and "is damaged; the weights are scored again" in capsys.readouterr().out


def test_scores_are_read_back(tmp_path):
    (tmp_path / "scores.json").write_text('{"ECSSD": {"files": "a", "scores": {}}}', "utf-8")
    assert compare.scores_in(tmp_path / "scores.json") == {"ECSSD": {"files": "a", "scores": {}}}


def test_searches_vote_and_run_side_by_side(arguments, forked_runs):
    given, out = arguments
    more = ["--search-seeds", "[0, 1]", "--consensus", '["searched"]', "--jobs", "2", "--train-seeds", "[]"]
    assert compare.main([*given, *more]) == 0
    voted = load(out / "genotypes" / "searched-consensus_0.json")
    assert [name.split("-")[0] for name in voted.provenance["mean of"]] == ["searched_0", "searched_1"]
    rows = [
        load_checkpoint(next((out / "searches").glob(f"searched_{seed}-*")) / "last.pt")["history"] for seed in (0, 1)
    ]
    means = torch.tensor([row[-1]["probabilities"] for row in rows]).mean(0)[:, 1:].max(1).values  # but for `none`
    assert voted.provenance["weights"] == pytest.approx(means.tolist(), abs=1e-4)
    kept = read_mixtures(out.parent / "evidence", "searched")
    for seed, history in enumerate(rows):
        assert kept[seed] == pytest.approx(np.array(history[-1]["probabilities"]), abs=1e-5)


def test_a_genotype_from_another_space_is_refused(arguments):
    given, out = arguments
    path = next((out / "searches").glob("searched_0-*")) / "genotype.json"
    before = path.read_text()
    path.write_text(before.replace('"conv_3x3"', '"dil_conv_3x3"').replace('"SpatialAttention"', '"dil_conv_3x3"'))
    with pytest.raises(UserError, match="comes from another space"):
        compare.main(given)
    path.write_text(before)


def test_cells_of_other_evidence_are_trained_under_their_names(arguments, tmp_path):
    given, out = arguments
    compare.main(given)
    more = [
        "--variants",
        "{}",
        "--random-seeds",
        "[]",
        "--taken",
        '["searched_0"]',
        "--source",
        str(out.parent / "evidence"),
    ]
    config = parse(CompareConfig, "", [*given, *more, "--evidence", str(tmp_path / "other"), "--out", str(tmp_path)])
    (found,) = compare.fixed_candidates(compare.prepare(config))
    assert (found.group, found.name, found.search_seed) == ("searched", "0", 0)
    assert found.genotype.cells == load(out / "genotypes" / "searched_0.json").cells


def test_undilated_and_homogeneous_cells_are_among_the_candidates(arguments):
    given, out = arguments
    more = ["--published", '["resnet50"]', "--undilated", '["published"]', "--homogeneous", "true"]
    config = parse(CompareConfig, "", [*given, *more, "--out", str(out.parent / "other")])
    found = compare.fixed_candidates(compare.prepare(config))
    plain = next(one for one in found if one.group == "undilated").genotype
    published = load("resnet50")
    assert plain == without_dilation(published) and dilated(plain) == 0 and dilated(published) == 12
    homogeneous = {one.name: set(names_of(one.genotype)) for one in found if one.group == "homogeneous"}
    assert homogeneous == {name: {name} for name in ("skip_connect", "conv_3x3", "SpatialAttention")}


def test_the_report_has_mean_spread_and_every_point(tmp_path):
    results = [
        Result(group, name, seed, 2_000_000, 0.5, {"held-out": {"wfm": value, "mae": 0.1}})
        for group, name, seed, value in [
            ("random", "0", 0, 0.6), ("random", "1", 0, 0.8), ("random", "0", 1, 0.1), ("searched", "0", 0, 0.9),
        ]
    ]  # fmt: skip
    write_results(tmp_path, results, ["held-out"], "What it is.")
    text = (tmp_path / "compare.md").read_text()
    assert "| random | 2 | 2.00 | 0.50 | 0.7000 ± 0.1414 (0.6000 to 0.8000) |" in text, "seed 0, which both have"
    assert "| searched | 1 | 2.00 | 0.50 | 0.9000 |" in text, "one training has no spread"
    assert "training seed 0, which all groups have" in text
    assert len(re.findall(r"^\| (random|searched) \d \|", text, re.MULTILINE)) == 4
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_compares_with_random_cells_within_a_seed(tmp_path):
    """Seed 1 costs every genotype .3. With seed 0 random genotypes have .7 and .5, so .6 ± .1."""
    trained = [("random", "0", 0, 0.7), ("random", "0", 1, 0.4), ("random", "1", 0, 0.5), ("random", "1", 1, 0.2),
               ("searched", "0", 0, 0.9), ("searched", "1", 0, 0.9), ("alone", "0", 0, 0.6),
               ("late", "0", 2, 0.9)]  # fmt: skip
    results = [
        Result(group, name, seed, 2_000_000, 0.5, {"held-out": {"wfm": value, "mae": 0.1}})
        for group, name, seed, value in trained
    ]
    write_results(tmp_path, results, ["held-out"], "What it is.")
    text = (tmp_path / "compare.md").read_text()
    assert "| searched | +0.3000 ± 0.1000 |" in text
    assert "| alone | +0.0000 ± 0.1000 |" in text, "the noise of a training is 0 here"
    assert "| late | no training seed in common |" in text
    assert "| noise of a training | 0.0000 |" in text
