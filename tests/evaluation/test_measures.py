"""Measures registered by name: scored beside the built-in ones, in workers too; what they must not do."""

import csv

import numpy as np
import pytest

import evaluate
from evaluation import measures
from evaluation.map_files import MapError
from evaluation.measures import KEYS, LABELS, MeasureError, find, measure, registered, renamed
from evaluation.scoring import score_maps
from tests.scored import bench_pairs


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Leaves the registry as it was."""
    monkeypatch.setattr(measures, "_REGISTRY", dict(measures._REGISTRY))


def test_a_registered_measure_is_scored_whatever_the_number_of_workers(bench):
    @measure("share", "share of foreground")
    def share(saliency, mask):
        assert saliency.dtype == np.float64 and mask.dtype == np.bool_
        return mask.mean()

    one = score_maps(bench_pairs(bench) * 2, workers=1)
    two = score_maps(bench_pairs(bench) * 2, workers=2)
    assert one.measures == two.measures
    assert tuple(one.measures) == (*KEYS, "share")
    assert one.measures["share"] == pytest.approx(np.mean([row.measures["share"] for row in one.rows]))
    assert find("share").label == "share of foreground"


@pytest.mark.parametrize("value", [float("nan"), "no number", None])
def test_a_measure_that_gives_no_number_is_an_error_that_names_it(bench, value):
    measure("broken")(lambda saliency, mask: value)
    with pytest.raises(MapError, match="measure broken: "):
        score_maps(bench_pairs(bench)[:1], workers=1)


def test_names_that_are_taken_or_no_identifiers():
    with pytest.raises(MeasureError, match="'mae': the name is taken by 'MAE'"):
        measure("mae")(lambda saliency, mask: 0)
    with pytest.raises(MeasureError, match="letters, digits and _"):
        measure("a b")(lambda saliency, mask: 0)
    with pytest.raises(MeasureError, match="'other' is no measure"):
        find("other")


def test_registering_the_same_function_again_changes_nothing():
    def first_pixel(saliency, mask):
        return saliency[0, 0]

    for _ in range(2):
        measure("first_pixel")(first_pixel)
    assert [each.key for each in registered()] == ["first_pixel"]


def test_keys_of_earlier_releases():
    assert renamed({"maxfm": 1, "validation/maxfm": 2, "mae": 3}) == {"maxf": 1, "validation/maxf": 2, "mae": 3}


def test_every_measure_has_a_label_that_names_its_variant():
    assert tuple(LABELS) == KEYS
    known = {"adpf": "adaptive F", "wfm": "weighted F", "maxe": "max E"}
    assert all(word in LABELS[key] for key, word in known.items())


def test_the_example_through_the_command_line(root, bench, tmp_path):
    maps = [f"good={bench / 'good'}", f"poor={bench / 'poor'}"]
    arguments = ["--data", f"A={bench / 'data'}", "--maps", *maps, "--out", str(tmp_path), "--workers", "1"]
    plugin = ["--plugins", str(root / "examples/measure.py")]
    assert evaluate.main([*arguments, *plugin, "--resamples", "50", "--images", "0"]) == 0
    rows = list(csv.DictReader((tmp_path / "tables.csv").open()))
    assert float(rows[0]["iou_low"]) <= float(rows[0]["iou"]) <= float(rows[0]["iou_high"]) <= 1
    assert float(rows[0]["iou"]) > float(rows[1]["iou"])
    assert "IoU at 0.5" in (tmp_path / "tables.md").read_text()
    assert r"\mathrm{iou}" in (tmp_path / "tables.tex").read_text()
