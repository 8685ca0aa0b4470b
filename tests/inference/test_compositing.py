"""Overlay, cutout, backgrounds and crop on constructed images."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference import compositing
from inference.compositing import (
    DIMMED,
    ORANGE,
    blurred_background,
    cut_out,
    despill,
    fit_background,
    object_box,
    on_background,
    overlay,
)
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
    with pytest.raises(UserError, match=r"image \(60, 80\) and map \(80, 60\)"):
        function(image, np.zeros((80, 60), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
@pytest.mark.parametrize("function", [overlay, cut_out])
def test_tiny_images(function, size):
    out = function(np.full((*size, 3), 9, np.uint8), np.full(size, 255, np.uint8))
    assert out.shape[:2] == size


def test_the_alpha_of_a_cutout_is_the_map_and_sure_pixels_keep_their_colour(image, disc):
    saliency = cv2.GaussianBlur(disc, (0, 0), 2)
    out = cut_out(image, saliency)
    assert out.shape == (60, 80, 4)
    assert (out[..., 3] == saliency).all()
    assert (out[saliency == 255, :3] == image[saliency == 255]).all()


def test_despill_recovers_the_colour_under_a_soft_rim():
    """A red disc over green: at the rim the mixture is brown, the object's own colour is red."""
    red, green = np.array([200, 20, 20]), np.array([20, 200, 20])
    soft = cv2.GaussianBlur(cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 60, 255, -1), (0, 0), 4)
    alpha = soft[..., None] / 255
    mixture = np.rint(alpha * red + (1 - alpha) * green).astype(np.uint8)
    rim = (soft > 25) & (soft < 230)
    error = np.abs(despill(mixture, soft)[rim].astype(int) - red).mean()
    seam = np.abs(mixture[rim].astype(int) - red).mean()
    assert seam > 40
    assert error < seam / 5


def whole_despill(image, saliency):
    """Blur fusion as its paper writes it, on the whole image in three channels at once."""
    colour = image.astype(np.float32)
    alpha = np.repeat(saliency[..., None].astype(np.float32) / np.float32(255), 3, axis=2)
    front = back = colour
    for part in (1 / 8, 1 / 64):
        side = 2 * max(1, round(part * min(saliency.shape))) + 1
        share = cv2.blur(alpha, (side, side))
        mean_front = cv2.blur(front * alpha, (side, side)) / (share + 1e-5)
        mean_back = cv2.blur(back * (1 - alpha), (side, side)) / (1 - share + 1e-5)
        unexplained = colour - alpha * mean_front - (1 - alpha) * mean_back
        front = np.clip(mean_front + alpha * unexplained, 0, 255).astype(np.float32)
        back = mean_back.astype(np.float32)
    return np.rint(front).astype(np.uint8)


@pytest.mark.parametrize("size", [(60, 80), (1, 50), (50, 1), (130, 90), (40, 900), (900, 40)])
@pytest.mark.parametrize("strip", [1, 1 << 10, 1 << 21])
def test_strips_give_what_the_whole_image_gives(size, strip, monkeypatch):
    rng = np.random.default_rng(size[0])
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    saliency = cv2.resize(rng.integers(0, 256, (5, 7), dtype=np.uint8), size[::-1])
    whole = on_background(image, saliency, (9, 8, 7)), overlay(image, saliency)
    monkeypatch.setattr(compositing, "STRIP", strip)
    assert (despill(image, saliency) == whole_despill(image, saliency)).all()
    assert (on_background(image, saliency, (9, 8, 7)) == whole[0]).all()
    assert (overlay(image, saliency) == whole[1]).all()


def drawn(size):
    """A textured object with thin parts and a soft rim before a textured background, and its map."""
    height, width = size
    saliency = np.zeros(size, np.uint8)
    cv2.ellipse(saliency, (width // 2, height // 2), (width // 4, height // 3), 20, 0, 360, 255, -1)
    for end in range(0, width, width // 9):
        cv2.line(saliency, (width // 2, height // 2), (end, 0), 255, 3)
    saliency = cv2.GaussianBlur(saliency, (0, 0), 2.5)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    front = np.stack([150 + 60 * np.sin(x / 19), 90 + 50 * np.cos(y / 23), 60 + 0 * x], axis=2)
    back = np.stack([40 + 30 * np.cos(y / 31), 120 + 40 * np.sin(x / 17), 170 + 60 * np.sin((x + y) / 29)], axis=2)
    share = saliency[..., None] / np.float32(255)
    return np.rint(share * front + (1 - share) * back).astype(np.uint8), saliency


@pytest.mark.parametrize("size", [(1050, 1399), (2101, 1600), (300, 5001)])
def test_a_large_image_is_despilled_like_a_small_one(size, monkeypatch):
    """Its means are of cells of 2 or 3 pixels; the sides are no whole numbers of them."""
    image, saliency = drawn(size)
    found = despill(image, saliency)
    rim = (saliency > 12) & (saliency < 243)
    difference = np.abs(found.astype(int) - whole_despill(image, saliency))
    seam = np.abs(image.astype(int) - whole_despill(image, saliency))[rim].mean()
    assert seam > 15 and difference[rim].mean() < seam / 20 and difference[saliency > 0].max() < seam
    assert (found[saliency == 255] == image[saliency == 255]).all()
    monkeypatch.setattr(compositing, "STRIP", 5000)  # one to four rows
    assert np.abs(despill(image, saliency).astype(int) - found).max() <= 1, "OpenCV rounds a single row otherwise"


def test_compositing_imports_no_pytorch(root):
    code = "import sys, inference.compositing; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


IMAGES = arrays(np.uint8, (9, 11, 3))
MAPS = arrays(np.uint8, (9, 11))
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@given(image=IMAGES, colour=COLOURS, despilled=st.booleans())
def test_a_full_map_gives_the_image_and_an_empty_one_the_background(image, colour, despilled):
    full, empty = np.full((9, 11), 255, np.uint8), np.zeros((9, 11), np.uint8)
    assert (on_background(image, full, colour, despilled) == image).all()
    assert (on_background(image, empty, colour, despilled) == colour).all()
    assert (on_background(image, empty, image, despilled) == image).all()


@given(saliency=MAPS, despilled=st.booleans())
def test_white_on_white_is_white(saliency, despilled):
    white = np.full((9, 11, 3), 255, np.uint8)
    assert (on_background(white, saliency, (255, 255, 255), despilled) == 255).all()


def test_without_despill_the_colours_are_those_of_the_image(image, disc):
    soft = cv2.GaussianBlur(disc, (0, 0), 3)
    assert (cut_out(image, soft, despilled=False)[..., :3] == image).all()
    assert (cut_out(image, soft)[..., :3] != image).any()


def test_a_blurred_background_has_no_trace_of_the_object(disc):
    """A white object on black: its own light does not reach the background."""
    image = np.repeat(disc[..., None], 3, axis=2)
    assert (blurred_background(image, disc) == 0)[disc == 0].all()
    stripes = np.zeros((60, 80, 3), np.uint8)
    stripes[::2] = 200
    blurred = blurred_background(stripes, np.zeros((60, 80), np.uint8))
    assert blurred.std() < stripes.std() / 3 and abs(blurred.mean() - stripes.mean()) < 5


@pytest.mark.parametrize("size", [(10, 10), (5, 40), (40, 5), (1, 1)])
def test_a_background_covers_the_image_and_keeps_its_middle(size):
    background = np.zeros((30, 20, 3), np.uint8)
    background[15, 10] = 255
    assert fit_background(background, size).shape == (*size, 3)
    assert (fit_background(background, (30, 20)) == background).all()


def test_the_crop_is_the_box_of_the_object(disc):
    rows, columns = object_box(disc)
    assert (rows, columns) == (slice(10, 51), slice(20, 61))
    assert object_box(disc, margin=0.1) == (slice(6, 55), slice(16, 65))
    assert object_box(disc, margin=1.0) == (slice(0, 60), slice(0, 80))
    assert object_box(np.zeros((60, 80), np.uint8)) == (slice(0, 60), slice(0, 80))
