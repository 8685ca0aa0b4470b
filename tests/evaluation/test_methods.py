"""Gathering and scoring several methods on several benchmarks."""

import shutil

import pytest

from data.layouts import find_pairs
from evaluation.measures import KEYS
from evaluation.methods import Problems, evaluate, gather
from utils.errors import UserError


def test_maps_lie_in_a_folder_of_the_benchmarks_name_or_in_the_methods(bench, tmp_path):
    shutil.copytree(bench / "good", tmp_path / "ours" / "A")
    shutil.copytree(bench / "good", tmp_path / "ours" / "B")
    both = gather({"A": bench / "data", "B": bench / "data"}, {"ours": tmp_path / "ours"})
    assert [each.maps["ours"][0].map_path.parent.name for each in both] == ["A", "B"]
    one = gather({"A": bench / "data"}, {"flat": bench / "good"})
    assert one[0].maps["flat"][0].map_path.parent == bench / "good"
    assert one[0].names == [pair.name for pair in find_pairs(bench / "data")]


def test_all_problems_of_all_methods_are_told_at_once(bench, tmp_path):
    for name in ("few", "twice"):
        shutil.copytree(bench / "good", tmp_path / name)
    first = min((tmp_path / "few").iterdir())
    first.unlink()
    shutil.copy(min((tmp_path / "twice").iterdir()), tmp_path / "twice" / f"{first.stem}.bmp")
    (tmp_path / "empty").mkdir()
    methods = {name: tmp_path / name for name in ("few", "twice", "empty")}
    with pytest.raises(UserError) as told:
        gather({"A": bench / "data", "none": tmp_path / "empty"}, methods)
    lines = str(told.value).splitlines()
    assert len(lines) == 4
    assert f"1 missing map: {first.stem}" in lines[0]
    assert "1 doubled map" in lines[1]
    assert "it is empty" in lines[2]
    assert str(tmp_path / "empty") in lines[3]


def test_maps_that_cannot_be_scored_are_told_for_every_method(bench, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(bench / "good", tmp_path / name)
        min((tmp_path / name).iterdir()).write_bytes(b"")
    data_sets = gather({"A": bench / "data"}, {"a": tmp_path / "a", "b": tmp_path / "b"})
    with pytest.raises(UserError) as told:
        evaluate(data_sets, workers=1, resamples=20)
    assert [str(tmp_path / name) in str(told.value) for name in ("a", "b")] == [True, True]


def test_scores_intervals_and_comparisons(bench):
    data_sets = gather({"A": bench / "data"}, {"good": bench / "good", "poor": bench / "poor"})
    (evaluated,), comparisons = evaluate(data_sets, workers=1, resamples=200)
    assert list(evaluated.scores) == ["good", "poor"]
    assert set(evaluated.intervals["good"]) == set(KEYS)
    low, high = evaluated.intervals["good"]["adpf"]
    assert low < evaluated.scores["good"].measures["adpf"] < high
    assert [comparison.key for comparison in comparisons] == list(KEYS)
    row = evaluated.table().rows[0]
    assert (row.method, row.values["mae"]) == ("good", evaluated.scores["good"].measures["mae"])


def test_without_resampling_there_are_no_intervals(bench):
    data_sets = gather({"A": bench / "data"}, {"good": bench / "good", "poor": bench / "poor"})
    (evaluated,), comparisons = evaluate(data_sets, workers=1, resamples=0)
    assert (evaluated.intervals, comparisons) == ({}, [])


def test_problems_let_other_errors_through():
    problems = Problems()
    problems.tell()
    with pytest.raises(ZeroDivisionError), problems.collected():
        raise ZeroDivisionError
    with problems.collected():
        raise UserError("one")
    with pytest.raises(UserError, match="one"):
        problems.tell()
