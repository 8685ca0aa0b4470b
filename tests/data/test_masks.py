"""Every coding of masks gives the same foreground; ambiguous ones are refused with their values."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.masks import read_mask

RNG = np.random.default_rng(0)
BINARY = np.where(RNG.integers(0, 256, (5, 7)) > 127, 255, 0).astype(np.uint8)
GREYS = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_a_cutout_as_mask_is_its_opaque_part(tmp_path: Path):
    rgba = np.full((4, 4, 4), 255, np.uint8)
    rgba[:, :2, 3] = 0
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", rgba))[0], [0, 0, 255, 255])


@pytest.mark.parametrize(
    ("palette", "wanted"),
    [
        ([0, 0, 0, 128, 0, 0, 0, 0, 64], [0, 255, 255]),  # labels in colour, as of VOC and DAVIS
        ([0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 255, 255]),  # 0 and 1
        ([0, 0, 0, 90, 90, 90, 255, 255, 255], [0, 90, 255]),  # greys
        ([0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0]),
    ],
)
def test_palette_masks(tmp_path: Path, palette: list[int], wanted: list[int]):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette(palette)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png")[0], wanted)


def test_one_bit_and_grey_0_and_1_are_the_same_mask(tmp_path: Path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", BINARY, "1")), BINARY)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.bmp", BINARY, "1")), BINARY)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "b.png", BINARY // 255)), BINARY)
