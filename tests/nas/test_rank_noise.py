"""Noise of rankings: values of known normal scores, hand-computed shares, and a planted edge."""

from dataclasses import replace

import numpy as np
import pytest

from nas.evidence import SupernetScore, Training
from nas.rank_noise import corrected, greatest_share_by_chance, share_between, tau_of
from nas.rank_tables import edges_table, limits_table
from net.genotype import Genotype, load


def test_the_correlation_without_noise_is_that_of_what_lies_below_it() -> None:
    rng = np.random.default_rng(0)
    count, true = 20_000, 0.6
    genotype = rng.standard_normal(count)
    supernet = true * genotype + (1 - true**2) ** 0.5 * rng.standard_normal(count)
    noisy = [supernet + rng.standard_normal(count) for _ in range(3)]
    trainings = [genotype + 0.5 * rng.standard_normal(count) for _ in range(2)]
    found = corrected(np.array(noisy), trainings[0], trainings[1])
    assert found.supernets == pytest.approx(0.5, abs=0.02)
    assert found.trainings == pytest.approx(1 / 1.25, abs=0.02)
    assert found.single == pytest.approx(true / (2 * 1.25) ** 0.5, abs=0.02)
    assert found.mean == pytest.approx(true / (4 / 3 * 1.25) ** 0.5, abs=0.02)
    assert found.value == pytest.approx(true, abs=0.02)
    assert found.low < true < found.high


def test_a_second_training_may_be_missing() -> None:
    rng = np.random.default_rng(1)
    genotype = rng.standard_normal(400)
    second = genotype + 0.1 * rng.standard_normal(400)
    second[200:] = np.nan
    found = corrected(genotype + 0.1 * rng.standard_normal((2, 400)), genotype, second)
    assert found.value == pytest.approx(1, abs=0.02)


def test_tau_of_a_correlation() -> None:
    assert [tau_of(value) for value in (-1.2, 0, 0.5, 1)] == pytest.approx([-1, 0, 1 / 3, 1])


def test_share_of_the_variance_between_groups() -> None:
    values = np.array([1.0, 3.0, 5.0, 7.0])  # mean 4, squares 9 + 1 + 1 + 9 = 20
    assert share_between(values, "aabb") == pytest.approx(16 / 20)  # means 2 and 6
    assert share_between(values, "abba") == pytest.approx(0)  # means 4 and 4
    assert share_between(np.ones(4), "aabb") == 0


def test_the_greatest_share_by_chance_grows_with_the_number_of_edges() -> None:
    rng = np.random.default_rng(2)
    values = rng.standard_normal(40)
    labels = [rng.choice(["a", "b", "c"], 40).tolist() for _ in range(31)]
    one, all_of_them = (greatest_share_by_chance(values, part) for part in (labels[:1], labels))
    assert 0.1 < one < 0.2 < all_of_them < 0.5  # R² of three groups: 2 degrees of freedom of 39, and its tail


@pytest.fixture
def pool() -> tuple[list[Training], list[SupernetScore], dict[tuple[str, str], Genotype]]:
    """Twenty genotypes, whose score by two supernets follows the operation that takes E3 into cell 2."""
    rng = np.random.default_rng(3)
    rows, scores, genotypes = [], [], {}
    for number in range(20):
        name, good = str(number), number % 2 == 0
        genotype = load("resnet50")
        cell = genotype.cells[1]
        outer = list(cell.outer)
        outer[2] = "conv_3x3" if good else "skip_connect"
        cells = (genotype.cells[0], replace(cell, outer=tuple(outer)), genotype.cells[2])
        genotypes["random", name] = replace(genotype, cells=cells)
        value = float(rng.standard_normal()) / 100
        for seed in (0, 1):
            noise = float(rng.standard_normal()) / 1000
            rows.append(Training("random", name, None, seed, 0.7, 9, 0.8 + value + noise, None, None))
            scores.append(SupernetScore("oneshot", seed, f"random_{name}", 0.7 + 0.1 * good + noise, 0.7))
    return rows, scores, genotypes


def test_the_table_of_edges_names_the_edge_that_decides(
    pool: tuple[list[Training], list[SupernetScore], dict[tuple[str, str], Genotype]],
) -> None:
    text = edges_table(*pool)
    first = text.splitlines()[2]
    assert first.startswith("| cell 2 outer E3 | 1.00 | 0.")
    assert "convolution +1.0" in text and "skip_connect -1.0" in text and "(10 genotypes)" in text


def test_the_table_of_limits_leaves_out_a_dataset_that_was_not_scored(
    pool: tuple[list[Training], list[SupernetScore], dict[tuple[str, str], Genotype]],
) -> None:
    rows, scores, _ = pool
    text = limits_table(rows, scores)
    assert "held-out" in text and "ECSSD" not in text
    assert "| held-out | +1.00 | +1.00 |" in text  # two supernets, two trainings
    assert limits_table(rows, scores[:0]).startswith("Needs two supernets")
