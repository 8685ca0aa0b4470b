"""Overlay, cut-out and contact sheet on constructed pictures."""

import cv2
import numpy as np
import pytest

from inference.compositing import DIMMED, ORANGE, SheetRow, contact_sheet, cut_out, foreground, overlay
from utils.errors import UserError


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def disc():
    """A hard disc in the middle of (60, 80)."""
    return cv2.circle(np.zeros((60, 80), np.uint8), (40, 30), 20, 255, -1)


def test_overlay_keeps_the_object_and_dims_the_rest(image, disc):
    out = overlay(image, disc)
    inside = cv2.erode(disc, np.ones((7, 7), np.uint8)) > 0
    outside = cv2.dilate(disc, np.ones((7, 7), np.uint8)) == 0
    assert out.dtype == np.uint8 and out.shape == image.shape
    assert (out[inside] == image[inside]).all()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[outside]
    assert np.abs(out[outside] - DIMMED * grey[:, None]).max() <= 1
    assert (np.abs(out.astype(int) - ORANGE).max(axis=2) < 8)[~inside & ~outside].sum() > 50


def test_overlay_of_an_empty_map_has_no_outline(image):
    out = overlay(image, np.zeros((60, 80), np.uint8))
    assert (out == out[..., :1]).all()


def test_overlay_does_not_change_its_inputs(image, disc):
    before = image.copy(), disc.copy()
    overlay(image, disc)
    cut_out(image, disc)
    assert (image == before[0]).all() and (disc == before[1]).all()


@pytest.mark.parametrize("function", [overlay, cut_out])
def test_other_sizes_are_refused(function, image):
    with pytest.raises(UserError, match=r"picture \(60, 80\) and map \(80, 60\)"):
        function(image, np.zeros((80, 60), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
@pytest.mark.parametrize("function", [overlay, cut_out])
def test_tiny_pictures(function, size):
    out = function(np.full((*size, 3), 9, np.uint8), np.full(size, 255, np.uint8))
    assert out.shape[:2] == size


def test_cut_out_alpha_is_the_map_and_sure_pixels_keep_their_colour(image, disc):
    saliency = cv2.GaussianBlur(disc, (0, 0), 2)
    out = cut_out(image, saliency)
    assert out.shape == (60, 80, 4)
    assert (out[..., 3] == saliency).all()
    assert (out[saliency == 255, :3] == image[saliency == 255]).all()


def test_foreground_recovers_the_colour_under_a_soft_rim():
    """A red disc over green: at the rim the mixture is brown, the object's own colour is red."""
    red, green = np.array([200, 20, 20]), np.array([20, 200, 20])
    soft = cv2.GaussianBlur(cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 60, 255, -1), (0, 0), 4)
    alpha = soft[..., None] / 255
    mixture = np.rint(alpha * red + (1 - alpha) * green).astype(np.uint8)
    rim = (soft > 25) & (soft < 230)
    error = np.abs(foreground(mixture, soft)[rim].astype(int) - red).mean()
    seam = np.abs(mixture[rim].astype(int) - red).mean()
    assert seam > 40
    assert error < seam / 5


def _row(caption="name", *shapes):
    return SheetRow(caption, [np.full(shape, 10 + i, np.uint8) for i, shape in enumerate(shapes)])


@pytest.mark.parametrize("count", [1, 6, 7, 12])
def test_sheet_shows_every_panel(count):
    """Every panel has a value of its own; all of them are found on the sheet."""
    values = np.arange(10, 10 + 2 * count, dtype=np.uint8).reshape(count, 2)
    rows = [
        SheetRow(f"picture {i}", [np.full((30, 40, 3), a), np.full((40, 30), b)]) for i, (a, b) in enumerate(values)
    ]
    sheet = contact_sheet(["picture", "map"], rows)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    for value in values.ravel():
        assert ((sheet == value).all(axis=2)).sum() > 10_000


def test_sheet_takes_every_size_and_long_names():
    sheet = contact_sheet(["picture", "map"], [_row("x" * 500, (1, 1), (3000, 4)), _row("", (5, 2000, 3))])
    assert sheet.shape == contact_sheet(["picture", "map"], [_row(), _row()]).shape


def test_sheet_captions_do_not_reach_the_panels():
    """Letters such as g and p hang below the line: they stay above the picture."""
    white = np.full((180, 240), 255, np.uint8)
    sheet = contact_sheet(["map"], [SheetRow("gpqyj", [white])])
    assert (sheet == 255).all(axis=2).sum() >= 180 * 240


def test_sheet_without_rows_and_with_too_many_panels():
    with pytest.raises(UserError, match="at least one picture"):
        contact_sheet(["picture"], [])
    with pytest.raises(UserError, match=r"dog: 2 panels for the 1 columns"):
        contact_sheet(["picture"], [_row("dog", (2, 2), (2, 2))])
