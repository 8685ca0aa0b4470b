"""Point 7: 16-bit TIFF in every layout and BMP without alpha are read rightly, or refused with the true reason."""

import struct
from pathlib import Path

import numpy as np
import pytest

from data.image_io import ImageReadError, read_image
from tests.hostile.image_bytes import colours, tiff

EIGHT = colours()
DEEP = EIGHT.astype(np.uint16) * 257
GREY = DEEP[..., :1]
FULL = np.full_like(GREY, 65535)
GREYS = np.repeat(EIGHT[..., :1], 3, axis=2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("samples", "photometric", "options", "wanted"),
    [
        (DEEP, 2, {}, EIGHT),
        (DEEP, 2, {"planar": True}, EIGHT),
        (np.dstack([DEEP, FULL]), 2, {"extra": 2}, EIGHT),
        (np.dstack([DEEP, GREY, GREY]), 2, {"extra": 0}, EIGHT),
        (np.dstack([DEEP, GREY, GREY]), 2, {"extra": 0, "planar": True}, EIGHT),
        (DEEP, 1, {}, EIGHT),
        (GREY, 1, {}, GREYS),
        (65535 - GREY, 0, {}, GREYS),
        (GREY // 2, 1, {"signed": True}, GREYS),
        (np.dstack([GREY, FULL]), 1, {"extra": 2}, GREYS),
        (np.dstack([GREY, np.zeros_like(GREY)]), 1, {"extra": 2}, np.full_like(EIGHT, 255)),
    ],
    ids=["rgb", "planar", "rgba", "five samples", "five planes", "rgb called grey", "grey", "white is zero", "signed",
         "grey and alpha", "clear"],
)  # fmt: skip
def test_16_bit_tiff(tmp_path: Path, order: str, samples, photometric: int, options: dict, wanted: np.ndarray):
    (tmp_path / "a.tif").write_bytes(tiff(samples, photometric, order, **options))
    got = read_image(tmp_path / "a.tif").astype(int)
    assert np.abs(got - wanted).max() <= 1


def test_a_planar_tiff_is_upright(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(tiff(DEEP, 2, planar=True, orientation=6))
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - np.rot90(EIGHT, -1)).max() <= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(DEEP.view(np.int16).astype(np.uint16), 1, signed=True), "signed values from -"),
        (tiff(np.zeros((4, 5, 3), np.uint32), 2), "3 samples of 32 bits, unsigned, which is not supported"),
        (tiff(np.zeros((4, 5, 1), np.float32), 1), "32"),
    ],
)
def test_what_is_not_read_says_why(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(tmp_path / "a.tif")
    assert "truncated" not in str(caught.value) or "signed" in reason
    assert len(str(caught.value)) < 300


def test_a_bmp_whose_alpha_is_zero_throughout_is_opaque(tmp_path: Path):
    height, width = EIGHT.shape[:2]
    pixels = np.dstack([EIGHT[::-1, :, ::-1], np.zeros((height, width), np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks
    header += b"BGRs" + bytes(48)
    start = 14 + len(header)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp"), EIGHT)
