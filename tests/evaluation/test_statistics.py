"""Intervals that cover what they say, tests that keep their level, corrections worked out by hand."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from evaluation.measures import KEYS
from evaluation.metrics import Curves, DatasetScores, PairScores
from evaluation.statistics import holm, resample, swap_test
from utils.errors import UserError

MAE, MAXF, ADPF = (KEYS.index(key) for key in ("mae", "maxf", "adpf"))


def data_set(values, curves=None):
    """Scores of which every measure of map i is `values[i]`; the curves may be given, (N, 256)."""
    rows = tuple(PairScores(f"{i}", dict.fromkeys(KEYS, float(v)), 255) for i, v in enumerate(values))
    curves = np.repeat(np.asarray(values)[:, None], 256, axis=1) if curves is None else curves
    curves = curves.astype(np.float32)
    return DatasetScores(rows[0].measures, Curves(*np.zeros((4, 256))), rows, curves, curves)


@pytest.mark.parametrize("count", [12, 60])
def test_intervals_are_those_of_scipy(count):
    values = np.random.default_rng(count).beta(6, 1.5, count)  # skewed, as scores are
    found = resample(data_set(values), 20_000).intervals()[ADPF]
    known = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1)
    width = known.confidence_interval.high - known.confidence_interval.low
    assert found == pytest.approx(tuple(known.confidence_interval), abs=0.03 * width)


def test_intervals_cover_the_true_mean():
    rng, trials = np.random.default_rng(5), 400
    hits = 0
    for trial in range(trials):
        low, high = resample(data_set(rng.beta(5, 2, 60)), 600, seed=trial).intervals()[ADPF]
        hits += low <= 5 / 7 <= high
    # 95 % of 400, less what chance and 60 images may take: three standard deviations and one part in a hundred.
    assert 0.94 - 3 * np.sqrt(0.95 * 0.05 / trials) < hits / trials < 0.95 + 3 * np.sqrt(0.95 * 0.05 / trials)


def test_max_f_is_read_off_a_new_curve_in_every_resample():
    curves = np.zeros((4, 256))
    curves[[0, 1], 10] = 1  # two images peak here,
    curves[[2, 3], 200] = 1  # two there
    sample = resample(data_set(np.ones(4), curves), 2000)
    assert sample.values[MAXF] == pytest.approx(0.5)
    # Of four draws 2, 3 or 4 come from the commoner kind: the maximum is never below one half.
    assert set(np.round(sample.replicates[:, MAXF], 4)) == {0.5, 0.75, 1}
    np.testing.assert_allclose(sample.jackknife[:, MAXF], 2 / 3)


def test_equal_scores_have_an_interval_of_no_width():
    np.testing.assert_allclose(resample(data_set(np.full(9, 0.7)), 100).intervals(), 0.7, rtol=1e-6)


def test_difference_of_two_is_the_bootstrap_of_the_differences():
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 50))
    difference = resample(data_set(a), 3000, seed=4) - resample(data_set(b), 3000, seed=4)
    alone = resample(data_set(a - b), 3000, seed=4)
    np.testing.assert_allclose(difference.intervals()[ADPF], alone.intervals()[ADPF], atol=1e-6)


def test_one_image_has_no_interval():
    with pytest.raises(UserError, match="at least two images, there is 1"):
        resample(data_set([0.5]))


def test_swap_test_is_scipys_permutation_test():
    rng = np.random.default_rng(3)
    a = rng.random(10)
    b = a + rng.normal(0.05, 0.1, 10)
    exact = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert swap_test(data_set(a), data_set(b), 20_000)[MAE] == pytest.approx(exact.pvalue, abs=0.02)


def test_swap_test_keeps_its_level_on_shuffled_labels():
    rng, trials = np.random.default_rng(7), 400
    found = []
    for trial in range(trials):
        skill = rng.beta(5, 2, 40)  # hard images are hard for both methods
        two = skill[:, None] * rng.uniform(0.7, 1, (40, 2))
        two = rng.permuted(two, axis=1)
        curves = two.T[..., None] * rng.uniform(0.8, 1, 256)
        found.append(swap_test(*(data_set(v, c) for v, c in zip(two.T, curves, strict=True)), 199, trial)[[MAE, MAXF]])
    rejected = (np.array(found) <= 0.05).mean(axis=0)
    assert (rejected < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)).all()
    assert scipy.stats.kstest(np.array(found)[:, 0], "uniform").pvalue > 1e-3


def test_swap_test_finds_a_small_steady_difference():
    rng = np.random.default_rng(1)
    skill = rng.random(80)
    better = skill + rng.normal(0.01, 0.02, 80)
    assert swap_test(data_set(better), data_set(skill), 999)[ADPF] < 0.01


def test_a_method_does_not_differ_from_itself():
    scores = data_set(np.random.default_rng(0).random(30))
    np.testing.assert_array_equal(swap_test(scores, scores, 99), 1)


def test_p_is_never_zero_and_does_not_depend_on_the_order():
    a, b = data_set(np.linspace(0.8, 0.9, 40)), data_set(np.linspace(0.1, 0.2, 40))
    forth, back = swap_test(a, b, 499), swap_test(b, a, 499)
    np.testing.assert_array_equal(forth, 1 / 500)
    np.testing.assert_array_equal(back, forth)


def test_other_images_are_refused():
    with pytest.raises(UserError, match="same images"):
        swap_test(data_set([0.1, 0.2]), data_set([0.1, 0.2, 0.3]))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_values_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all()
