"""The ablation draws its images only by name and reports what its runs scored."""

import json

import pytest

from benchmarks import loss_ablation, recipes
from benchmarks.ablation import CHOICE, MEASURES, Budget, cell, draw_images, spread
from benchmarks.loss_ablation import report, terms
from data.layouts import find_pairs
from data.synthetic import write_scenes
from tests.conftest import ROOT
from utils.errors import UserError

pytestmark = pytest.mark.slow


def test_images_to_train_on_and_to_choose_on_are_fixed_and_disjoint(tmp_path):
    root = write_scenes(tmp_path / "data", count=12, size=48)
    drawn = [draw_images(root, 7, 4, tmp_path / out) for out in ("one", "two")]
    lists = [listed.read_text().split() for listed, _ in drawn]
    choices = [[pair.name for pair in find_pairs(choice)] for _, choice in drawn]
    assert lists[0] == lists[1] and choices[0] == choices[1]
    assert len(lists[0]) == 7 and len(choices[0]) == 4 and not set(lists[0]) & set(choices[0])
    with pytest.raises(UserError, match="12 images, 9 to train on and 4 to choose on are needed"):
        draw_images(root, 9, 4, tmp_path / "one")


SCORES = {
    (variant, seed): {"set": dict.fromkeys(MEASURES, 0.5 + gain + 0.01 * seed)}
    for variant, gain in (("bce", 0.0), ("iou", 0.1))
    for seed in (0, 1, 2)
}


def test_differences_are_taken_seed_by_seed():
    assert cell(SCORES, "bce", None, "set", "maxf", [0, 1, 2]) == "0.5100 ± 0.0100"
    assert cell(SCORES, "iou", "bce", "set", "maxf", [0, 1, 2]) == "0.6100 ± 0.0100 (+0.1000 ± 0.0000)"
    assert spread([3.0]) == 0


def test_the_report_has_table_plot_and_json(tmp_path, capsys):
    report(["bce", "iou"], ["set"], SCORES, tmp_path / "table.md", Budget(10, 64, 1, 4, "fp32"))
    text = (tmp_path / "table.md").read_text()
    assert "| BCE + IoU | 0.6100" in text and "precision: fp32" in text
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert len(rows) == 1 + len(SCORES) and rows[0] == "loss,seed,part,maxf,wfm,mae,msiou"
    assert rows[-1] == "iou,2,set,0.62,0.62,0.62,0.62"
    assert (tmp_path / "table.png").stat().st_size > 5000
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["iou/set/mae"] == 0.61


def test_the_table_of_the_documents_holds_means_and_spread_on_the_images_to_choose_on():
    scores = {key: {CHOICE: found["set"]} for key, found in SCORES.items()}
    head, *rows = terms(["bce", "iou"], scores).splitlines()
    assert head == "loss,max F,weighted F,MAE,MSIoU"
    assert rows == [f"{title}{f',{value} ± .010' * 4}" for title, value in (("BCE", ".510"), ("BCE + IoU", ".610"))]


def ablation(tmp_path, monkeypatch, *more):
    """Two losses, one seed, a network without pretrained weights on generated scenes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite.yaml").write_text(
        f"network: {{encoder: test_efficientnet, genotype: {ROOT}/tests/every_operation.json, channels: 16}}\n"
        "data: {root: x, workers: 0}\nprecision: fp32\n"
    )
    monkeypatch.setattr("sys.argv", [
        "loss_ablation.py", "--train", str(tmp_path / "data"), "--data", f"Scenes={tmp_path / 'scenes'}",
        "--config", str(tmp_path / "lite.yaml"), "--variants", "bce", "iou", "--seeds", "1", "--images", "4",
        "--choice", "2", "--size", "32", "--epochs", "1", "--batch", "2", "--encoder-weights", "none",
        "--device", "cpu", "--engine", "torch", *more,
    ])  # fmt: skip
    assert loss_ablation.main() == 0
    return {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.rglob("finished.json")}


def test_another_setting_trains_again_and_the_same_does_not(tmp_path, monkeypatch, forked_runs):
    """It once took a run for finished by a file named `trained`, whatever the settings were."""
    write_scenes(tmp_path / "data", 6, 40, seed=0)
    write_scenes(tmp_path / "scenes", 2, 40, seed=1)
    first = ablation(tmp_path, monkeypatch)
    assert len(first) == 4, "two trainings, two scores"
    assert ablation(tmp_path, monkeypatch) == first
    second = ablation(tmp_path, monkeypatch, "--epochs", "2", "--variants", "iou", "--jobs", "2")
    assert len(second) == 6 and first.items() <= second.items()
    assert (tmp_path / "runs" / "benchmarks" / "loss_ablation.md").is_file(), "no committed table is touched"


def test_recipes_are_compared_with_the_first_seed_by_seed(tmp_path, monkeypatch, capsys, forked_runs):
    write_scenes(tmp_path / "data", 6, 40, seed=0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite.yaml").write_text(
        f"network: {{encoder: test_efficientnet, genotype: {ROOT}/tests/every_operation.json, channels: 16}}\n"
        "data: {root: x, workers: 0}\nlog_every: 1\n"
    )
    maps = ["--soft-maps", str(tmp_path / "data" / "masks")]
    words = ["--train", str(tmp_path / "data"), "--config", str(tmp_path / "lite.yaml"),
             "--variants", "gate", "distilled", "--seeds", "2",
             "--images", "4", "--choice", "2", "--size", "32", "--epochs", "1", "--batch", "2",
             "--encoder-weights", "none", "--device", "cpu", "--engine", "torch", "--precision", "fp32"]  # fmt: skip
    with pytest.raises(UserError, match=r"^--variants distilled: it needs a teacher's maps. Give --soft-maps DIR.$"):
        recipes.main(words)
    assert recipes.main([*words, *maps]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = (tmp_path / "runs" / "benchmarks" / "recipes.csv").read_text().splitlines()
    assert rows[0] == "variant,seed,maxf,wfm,mae,msiou" and len(rows) == 7
    means = json.loads(printed[-1])
    scored = [row.split(",") for row in rows[1:]]
    assert means["gate"] == pytest.approx(sum(float(row[3]) for row in scored if row[0] == "gate") / 2, abs=1e-4)
    line = next(one for one in printed if one.startswith("| a gate"))
    assert float(line.split("|")[3].split("±")[0]) == pytest.approx(means["gate"] - means["recipe"], abs=2e-4)
