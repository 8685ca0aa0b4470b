"""The measures of one map, against the library's own classes and against values worked out by hand.

The library's published example (three pairs of its test data) is not available; comparing with its classes on any map
is the stronger check. The constructed cases check that the library measures what the names mean.
"""

import cv2
import numpy as np
import py_sod_metrics as sod
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.pysod import measure_map

CLOSE = {"rel": 0, "abs": 1e-9}


def by_the_library(saliency, mask):
    """Every number as the library's classes give it, each fed the raw pair."""
    parts = {"mae": sod.MAE(), "s": sod.Smeasure(), "wf": sod.WeightedFmeasure(), "e": sod.Emeasure()}
    parts |= {"f": sod.Fmeasure(), "ms": sod.MSIoU(with_dynamic=False, with_adaptive=True)}
    for part in parts.values():
        part.step(saliency, mask)
    f, e = parts["f"].get_results(), parts["e"].get_results()["em"]
    curves = np.stack([f["pr"]["p"], f["pr"]["r"], f["fm"]["curve"], e["curve"]])[:, ::-1]
    numbers = {
        "mae": parts["mae"].get_results()["mae"],
        "sm": parts["s"].get_results()["sm"],
        "wfm": parts["wf"].get_results()["wfm"],
        "adpf": f["fm"]["adp"],
        "adpe": e["adp"],
        "msiou": parts["ms"].get_results()["adaptive"],
    }
    return numbers, curves


def assert_same(saliency, mask):
    found, found_curves = measure_map(saliency, mask)
    numbers, curves = by_the_library(saliency, mask)
    np.testing.assert_allclose(found_curves, curves, rtol=0, atol=1e-9)
    f, e = curves[2:]
    numbers |= {"meanf": f.mean(), "maxf": f.max(), "meane": e.mean(), "maxe": e.max()}
    if np.isnan(numbers["sm"]):  # see test_object_in_the_last_row_has_an_s
        assert 0 <= found.pop("sm") <= 1
        del numbers["sm"]
    assert found == pytest.approx(numbers, **CLOSE)


@st.composite
def maps_and_masks(draw):
    shape = draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.integers(0, 256, shape).astype(np.uint8)
    mask = cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.float32), (0, 0), 2)
    mask = np.where(mask > draw(st.sampled_from([0, 100, 127, 150, 255])), 255, 0).astype(np.uint8)
    kinds = {
        "noise": noise,
        "near": cv2.addWeighted(noise, 0.4, mask, 0.6, 0),
        "flat": np.full_like(noise, noise[0, 0]),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))], mask


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, deadline=None)
@given(maps_and_masks())
def test_same_as_the_library(pair):
    assert_same(*pair)


@pytest.mark.filterwarnings("ignore")
def test_same_as_the_library_where_it_rounds_many_edges():
    # The library counts edges in float16: above 2048 not every number exists.
    mask = np.zeros((301, 303), np.uint8)
    mask[4:-4:8, 5:-5] = 255
    assert_same(np.roll(mask, 1, axis=0), mask)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("mask", [0, 255])
def test_same_as_the_library_on_constant_maps_of_empty_and_full_masks(value, mask):
    assert_same(np.full((20, 30), value, np.uint8), np.full((20, 30), mask, np.uint8))


@pytest.fixture
def square():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255  # a quarter of the image
    return mask


def test_perfect(square):
    found = measure_map(square, square)
    assert found.values["mae"] == 0
    assert found.values["sm"] == pytest.approx(1, abs=1e-9)
    assert found.values["wfm"] == pytest.approx(1, abs=1e-9)
    assert found.values["adpf"] == pytest.approx(1)
    assert found.values["adpe"] == pytest.approx(1600 / 1599)  # the library divides by the pixels less one
    assert found.values["msiou"] == pytest.approx(1)
    precision, recall, f, _ = found.curves
    np.testing.assert_allclose(precision[1:], 1)
    np.testing.assert_allclose(recall, 1)
    np.testing.assert_allclose(f[1:], 1)
    assert precision[0] == pytest.approx(0.25)  # at threshold 0 everything is salient
    assert f[0] == pytest.approx(1.3 * 0.25 / (0.3 * 0.25 + 1))


def test_inverted(square):
    found = measure_map(255 - square, square)
    assert found.values["mae"] == 1
    assert found.values["adpf"] == 0
    assert found.values["adpe"] == pytest.approx(0, abs=1e-9)
    assert found.values["wfm"] == pytest.approx(0, abs=1e-9)
    _, _, f, e = found.curves
    assert f.max() == f[0] == pytest.approx(1.3 * 0.25 / (0.3 * 0.25 + 1))
    np.testing.assert_allclose(e[1:], 0, atol=1e-9)
    assert found.values["msiou"] == pytest.approx(1)  # the same boundary: it does not ask which side is salient


def test_constant_grey(square):
    found = measure_map(np.full_like(square, 102), square)
    assert found.values["mae"] == pytest.approx(0.25 * 0.6 + 0.75 * 0.4)  # not stretched: the map has no range
    assert found.values["adpf"] == 0  # the threshold, twice the mean, is above every pixel
    precision, recall, _, _ = found.curves
    np.testing.assert_allclose(recall, np.arange(256) <= 102)
    np.testing.assert_allclose(precision, 0.25 * (np.arange(256) <= 102))


def test_empty_mask(square):
    nothing = np.zeros_like(square)
    found = measure_map(square, nothing)
    assert found.values["mae"] == pytest.approx(0.25)
    assert found.values["sm"] == pytest.approx(0.75)
    assert found.values["wfm"] == found.values["adpf"] == found.curves[2].max() == 0
    assert found.values["adpe"] == pytest.approx(1200 / 1599)
    assert measure_map(nothing, nothing).values["sm"] == 1


def test_full_mask(square):
    full = np.full_like(square, 255)
    found = measure_map(square, full)
    assert found.values["mae"] == pytest.approx(0.75)
    assert found.values["sm"] == pytest.approx(0.25)
    assert found.values["adpf"] == pytest.approx(1.3 * 0.25 / (0.3 + 0.25))
    assert found.values["adpe"] == pytest.approx(400 / 1599)
    assert measure_map(full, full).values["adpf"] == pytest.approx(1)


def test_four_pixels_by_hand():
    saliency, mask = np.array([[0, 85, 170, 255]], np.uint8), np.array([[0, 0, 255, 255]], np.uint8)
    found = measure_map(saliency, mask)
    assert found.values["mae"] == pytest.approx((0 + 1 / 3 + 1 / 3 + 0) / 4)
    # Twice the mean is 1: only the last pixel is salient. Precision 1, recall 1/2.
    assert found.values["adpf"] == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    # Alignment 2ab / (a^2 + b^2) of the demeaned pixels: .9231 (hit), -.8 (miss), .8 (two rightly left out).
    enhanced = [((a + 1) ** 2) / 4 for a in (0.375 * 2 / 0.8125, -0.8, 0.8, 0.8)]
    assert found.values["adpe"] == pytest.approx(sum(enhanced) / 3)
    assert found.curves[2].max() == pytest.approx(1)  # between 85 and 170 the map is the mask
    assert found.curves[0][0] == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:This class", "ignore:`trapz`")
def test_object_in_the_last_row_has_an_s():
    # The library gives NaN: a quarter of the image is empty. It weighs nothing, so it must not count.
    mask = np.zeros((40, 40), np.uint8)
    mask[-1] = 255
    with pytest.warns(RuntimeWarning, match="empty slice"):
        assert np.isnan(by_the_library(mask, mask)[0]["sm"])
    assert measure_map(mask, mask).values["sm"] == pytest.approx(1, abs=1e-9)


def test_low_contrast_is_stretched(square):
    faint = np.where(square > 0, 120, 100).astype(np.uint8)
    assert measure_map(faint, square).values["mae"] == 0
    np.testing.assert_allclose(measure_map(faint, square).curves, measure_map(square, square).curves)


def test_mask_is_cut_above_128(square):
    grey = np.where(square > 0, 129, 128).astype(np.uint8)
    assert measure_map(square, grey).values["mae"] == 0


def test_moving_the_boundary_lowers_the_boundary_measure(square):
    scores = [measure_map(np.roll(square, shift, axis=1), square).values["msiou"] for shift in range(5)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[4] > 0.1


def test_only_the_wanted_measures_are_computed_with_the_same_bits(square):
    soft = cv2.GaussianBlur(square, (0, 0), 5)
    everything = measure_map(soft, square)
    some = measure_map(soft, square, ("mae", "wfm", "maxf"))
    assert list(some.values) == ["mae", "wfm", "maxf"]
    assert some.values == {key: everything.values[key] for key in some.values}
    np.testing.assert_array_equal(some.curves[:3], everything.curves[:3])
    assert np.isnan(some.curves[3]).all()
