"""Statistics of the evidence against data whose truth is known, and against other ways to compute them."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau, ttest_ind

from nas.evidence_statistics import (
    best_of,
    count_features,
    detectable,
    effect_at_equal_cost,
    family_features,
    noise_at_equal_cost,
    rank_correlation,
    repeatability,
)
from net.genotype import load, operations_of


def groups(effect, count=12, pool=40, seed=0):
    """Scores that rise by .015 per GMAC, with noise of .002; the group is larger and better by `effect`."""
    rng = np.random.default_rng(seed)
    costs = rng.normal(0.8, 0.1, count), rng.normal(0.7, 0.1, pool)
    scores = (0.83 + 0.015 * cost + rng.normal(0, 0.002, len(cost)) for cost in costs)
    mine, others = scores
    return mine + effect, costs[0], others, costs[1]


def test_an_effect_is_found_at_equal_cost():
    found = effect_at_equal_cost(*groups(0.004))
    assert found.low < 0.004 < found.high and found.low > 0 and found.p < 0.01
    assert found.high - found.low < 0.004


def test_larger_cells_alone_are_no_effect():
    found = effect_at_equal_cost(*groups(0.0))
    assert found.low < 0 < found.high and found.p > 0.05


def test_the_test_keeps_its_level():
    """Without an effect about 5 % of the p values lie below .05."""
    low = sum(effect_at_equal_cost(*groups(0.0, 4, 10, seed), seed=seed).p < 0.05 for seed in range(60))
    assert low <= 9


def test_the_effect_is_least_squares():
    mine, cost, others, other_cost = groups(0.003)
    design = np.stack([np.ones(52), np.concatenate([cost, other_cost]), np.repeat([1.0, 0.0], [12, 40])], 1)
    expected = np.linalg.lstsq(design, np.concatenate([mine, others]), rcond=None)[0][2]
    assert effect_at_equal_cost(mine, cost, others, other_cost).value == pytest.approx(expected)


def test_costs_that_are_the_group_are_refused():
    with pytest.raises(ValueError, match="can't be separated"):
        effect_at_equal_cost(np.array([0.8]), np.array([0.5]), np.array([0.7, 0.71, 0.72]), np.array([0.9, 0.901, 0.9]))
    with pytest.raises(ValueError, match="needs four"):
        effect_at_equal_cost(np.array([0.8]), np.array([0.5]), np.array([0.7, 0.71]), np.array([0.5, 0.6]))
    equal = effect_at_equal_cost(np.array([0.8, 0.8]), np.full(2, 0.5), np.array([0.7, 0.7, 0.7]), np.full(3, 0.5))
    assert equal.value == pytest.approx(0.1), "equal costs give no slope"


def test_rank_correlations():
    rng = np.random.default_rng(0)
    cost = rng.random(100)
    first, second = (cost + 0.3 * rng.standard_normal(100) for _ in range(2))
    plain, partial = rank_correlation(first, second), rank_correlation(first, second, cost)
    assert plain.tau == pytest.approx(kendalltau(first, second)[0]) and plain.tau > 0.2
    assert plain.low < plain.tau < plain.high and plain.genotypes == 100
    assert partial.tau < 0.6 * plain.tau and partial.low < 0.05, "both follow the cost, and nothing else"
    same = rank_correlation(first, first, cost)
    assert same.tau == pytest.approx(1)


def test_best_of_n_is_the_mean_over_all_draws():
    values = [0.3, 0.9, 0.5, 0.7, 0.1]
    for draws in (1, 2, 3, 5):
        expected = np.mean([max(drawn) for drawn in combinations(values, draws)])
        assert best_of(values, draws) == pytest.approx(expected)


def test_counts_are_by_cell_and_kind():
    genotype = load("resnet50")
    names = sorted({name for _, name in operations_of(genotype)})
    features = count_features([genotype], np.array([0.5]), names)
    assert features.shape == (1, 6 * len(names) + 1) and features[0, -1] == 0.5
    table = features[0, :-1].reshape(6, len(names))
    assert table.sum(1).tolist() == [4, 5, 4, 7, 4, 7]
    place = names.index(genotype.cells[0].outer[0])
    assert table[0, place] == genotype.cells[0].outer.count(genotype.cells[0].outer[0])


def test_families_are_counted_by_cell():
    genotype = load("vgg16")
    families = ["attention", "convolution", "dilated", "none", "skip_connect"]
    table = family_features([genotype], np.array([0.5]), families)[0]
    assert table.shape == (16,) and table[-1] == 0.5
    for cell, row in enumerate(table[:-1].reshape(3, 5), 1):
        names = [name for edge, name in operations_of(genotype) if edge.cell == cell]
        assert row.sum() == len(names) and row[2] == sum("dil" in name for name in names)
        assert row[0] == sum(name in ("ChannelAttention", "SpatialAttention") for name in names)
        assert row[1] == sum(name in ("conv_3x3", "conv_3x3_rp2", "sep_conv_3x3", "sep_conv_3x3_rp2") for name in names)


def test_a_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    size = detectable(1.0, 30, 40)
    found = [ttest_ind(rng.normal(size, 1, 30), rng.normal(0, 1, 40)).pvalue < 0.05 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_noise_at_equal_cost_is_what_the_line_leaves():
    cost = np.array([0.5, 0.6, 0.7, 0.8])
    assert noise_at_equal_cost(0.8 + 0.1 * cost, cost) == pytest.approx(0, abs=1e-12)
    residual = np.array([1.0, -1.0, -1.0, 1.0])  # has neither a mean nor a slope
    assert noise_at_equal_cost(cost + residual, cost) == pytest.approx(2**0.5)
    with pytest.raises(ValueError, match="2 genotypes"):
        noise_at_equal_cost(cost[:2], cost[:2])


def test_what_genotypes_and_trainings_vary_by_is_told_apart():
    """Many genotypes with a spread of .002, trainings with one of .001, and a seed that shifts all by .005."""
    rng = np.random.default_rng(0)
    genotypes = rng.normal(0.8, 0.002, 4000)
    first, second = (genotypes + shift + rng.normal(0, 0.001, 4000) for shift in (0.0, 0.005))
    found = repeatability(first, second)
    assert found.genotype == pytest.approx(0.002, rel=0.05) and found.training == pytest.approx(0.001, rel=0.05)
    assert found.low < 0.8 < found.high and found.share == pytest.approx(0.8, abs=0.02)
    unrelated = repeatability(first[:40], rng.normal(0, 1, 40))
    assert unrelated.low < 0 < unrelated.high
    with pytest.raises(ValueError, match="3 genotypes: a correlation needs four"):
        repeatability(first[:3], second[:3])
