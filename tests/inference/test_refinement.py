"""Gain, specks and holes on constructed maps."""

import cv2
import numpy as np
import pytest

from inference.refinement import FAINT, Refinement


@pytest.fixture
def ring():
    """A large ring with a small hole, a medium and a tiny disc."""
    canvas = np.zeros((100, 120), np.uint8)
    cv2.circle(canvas, (40, 50), 30, 255, -1)
    cv2.circle(canvas, (40, 50), 4, 0, -1)
    cv2.circle(canvas, (95, 30), 12, 200, -1)
    cv2.circle(canvas, (95, 70), 3, 255, -1)
    return cv2.GaussianBlur(canvas, (0, 0), 0.8)


def test_nothing_is_changed_by_default(ring):
    logits = np.linspace(-5, 5, 12, dtype=np.float32)
    assert Refinement().saliency(ring) is ring and Refinement().logits(logits) is logits


def test_the_gain_multiplies_logits():
    logits = np.linspace(-5, 5, 12, dtype=np.float32)
    np.testing.assert_allclose(Refinement(gain=1.5).logits(logits), 1.5 * logits)


def test_specks_are_removed_down_to_a_faint_rim(ring):
    out = Refinement(specks=0.05).saliency(ring)
    assert (out[60:, 80:] < FAINT).all() and ring[60:, 80:].any()
    assert (out[:60] == ring[:60]).all() and (out[:, :80] == ring[:, :80]).all()
    assert Refinement(specks=0.5).saliency(ring)[:, 80:].max() < FAINT


def test_holes_are_filled_and_the_border_is_not(ring):
    out = Refinement(holes=0.05).saliency(ring)
    assert (out[45:56, 35:46] >= 128).all() and ring[50, 40] < 128
    assert (out == ring)[:, 80:].all() and out[0, 0] == 0
    assert (Refinement(holes=0.001).saliency(ring) == ring).all()


@pytest.mark.parametrize("value", [0, 255])
def test_plain_maps_stay(value):
    plain = np.full((7, 5), value, np.uint8)
    assert (Refinement(specks=1.0, holes=1.0).saliency(plain) == plain).all()
