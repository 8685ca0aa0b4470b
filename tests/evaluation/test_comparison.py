"""Comparisons of methods: which p values are corrected together, and how they are printed."""

import csv
import io
import math
from dataclasses import replace

import pytest

from evaluation.comparison import (
    Comparison,
    compare,
    comparison_csv,
    comparison_markdown,
    corrected,
    enough_permutations,
    signed,
    small,
)
from evaluation.measures import KEYS
from evaluation.scoring import score_maps
from evaluation.statistics import resample
from tests.scored import bench_pairs

ONE = Comparison("A", "x", "y", "mae", -0.012, -0.02, 0.004, 0.01, 0.01)


def test_correction_runs_over_pairs_and_data_sets_of_one_measure():
    given = [ONE, replace(ONE, data_set="B", p=0.04), replace(ONE, second="z", p=0.03), replace(ONE, key="sm", p=0.02)]
    assert [c.adjusted for c in corrected(given)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [c.p for c in corrected(given)] == [0.01, 0.04, 0.03, 0.02]


def test_every_pair_and_measure_is_compared(bench):
    methods = ("good", "poor", "again")
    scores = {name: score_maps(bench_pairs(bench, name.replace("again", "good")), 1) for name in methods}
    samples = {name: resample(known, 200) for name, known in scores.items()}
    found = compare("bench", scores, samples, 99)
    assert [(c.first, c.second, c.key) for c in found] == [
        (*pair, key) for pair in (("good", "poor"), ("good", "again"), ("poor", "again")) for key in KEYS
    ]
    better = next(c for c in found if c.key == "adpf")
    assert better.low <= better.difference <= better.high
    assert better.difference == pytest.approx(
        scores["good"].measures["adpf"] - scores["poor"].measures["adpf"], abs=1e-5
    )
    assert better.low > 0 and better.p < 0.05
    same = [c for c in found if c.second == "again" and c.first == "good"]
    assert all(c.difference == c.low == c.high == 0 and c.p == 1 for c in same)


def test_csv_has_all_digits():
    rows = list(csv.DictReader(io.StringIO(comparison_csv([replace(ONE, p=1 / 3)]))))
    assert rows[0]["p"] == repr(1 / 3)
    assert rows[0]["first"] == "x"


def test_markdown_marks_what_is_sure():
    text = comparison_markdown([ONE, replace(ONE, adjusted=0.2, first="a|b")])
    assert "| A | x − y | MAE | -.012 | -.020 to +.004 | .0100 | **.0100** |" in text  # noqa: RUF001
    assert r"a\|b" in text and "| .20 |" in text
    assert "Holm" in text
    assert comparison_markdown([]) == ""


def test_numbers_as_printed():
    assert (signed(0.0124), signed(-0.5), signed(0), signed(1)) == ("+.012", "-.500", "+.000", "+1.000")
    assert (small(0.37), small(0.0041), small(1)) == (".37", ".0041", "1.00")
    assert (small(1 / 10_001), small(1e-9), small(1e-4)) == ("< 0.0001", "< 0.0001", ".0001")


@pytest.mark.parametrize(("methods", "datasets"), [(2, 1), (15, 5), (30, 10)])
def test_the_smallest_p_stays_significant_after_the_correction(methods, datasets):
    comparisons = math.comb(methods, 2) * datasets
    permutations = enough_permutations(10_000, comparisons)
    least = [replace(ONE, p=1 / (permutations + 1), first=f"{i}") for i in range(comparisons)]
    assert max(c.adjusted for c in corrected(least)) < 0.05
    assert enough_permutations(10_000, 1) == 10_000
    assert enough_permutations(0, comparisons) == 0
