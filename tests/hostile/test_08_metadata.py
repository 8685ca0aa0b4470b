"""Point 8: metadata never decides whether pixels are read."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from data.image_io import read_grey, read_image, read_image_with_metadata
from tests.hostile.image_bytes import chunk, colours, encoded, jpeg_with, orientation_exif, png_with

PIXELS = colours()
LONG = b"workflow " * 150_000
TURN = orientation_exif(6)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"parameters\0\0" + zlib.compress(LONG))],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG))],
        [chunk(b"tEXt", b"workflow\0" + LONG)],
        [chunk(b"iCCP", b"printer\0\0" + zlib.compress(LONG))],
        [chunk(b"iCCP", b"x\0\0no zlib")],
        [chunk(b"eXIf", b"b'Exif\\x00\\x00II*\\x00'")],
        [chunk(b"eXIf", b"")],
        [chunk(b"tEXt", b"a\0b")[:-4] + bytes(4)],
        [chunk(b"pHYs", b"short"), chunk(b"gAMA", b"")],
        [chunk(b"abCd", bytes(40))] * 500,
    ],
    ids=["ztxt", "itxt", "text", "iccp", "broken iccp", "exif text", "empty exif", "checksum", "short", "many"],
)
def test_png(tmp_path: Path, chunks: list[bytes], capfd: pytest.CaptureFixture[str]):
    (tmp_path / "a.png").write_bytes(png_with(PIXELS, *chunks))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)
    assert read_grey(tmp_path / "a.png").shape == PIXELS.shape[:2]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (TURN, True),
        (b"Exif\0\0" + TURN, True),
        (orientation_exif(6, ">"), True),
        (b"Exif\0\0", False),
        (b"Exif\0\0" + b"\x00\x08\x00\x02\x01\x12\x00\x03" * 4, False),
        (TURN[:-9], False),
        (b"Exif\0\0II*\0\x08\0", False),
        (b"Exif\0\0II*\0" + struct.pack("<I", 1 << 30), False),
        (b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535) + b"\x12\x01\x03\x00", False),
        (orientation_exif(0), False),
        (orientation_exif(9), False),
        (b"Exif\0\0II*\0" + struct.pack("<IHHHI4s", 8, 1, 0x0112, 2, 2, b"6\0\0\0") + bytes(4), False),
    ],
)
def test_jpeg_exif(tmp_path: Path, exif: bytes, turned: bool):
    (tmp_path / "a.jpg").write_bytes(jpeg_with(PIXELS, exif))
    wanted = np.rot90(PIXELS, -1) if turned else PIXELS
    got = read_image(tmp_path / "a.jpg")
    assert got.shape == wanted.shape and np.abs(got.astype(int) - wanted).mean() < 3


def test_exif_and_xmp_of_a_png_turn_it(tmp_path: Path):
    xmp = b'<x tiff:Orientation="6"/>'
    for part in (chunk(b"eXIf", TURN[6:]), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
                 chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))):  # fmt: skip
        (tmp_path / "a.png").write_bytes(png_with(PIXELS, part))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_broken_exif_of_other_formats(tmp_path: Path, kind: str):
    options = {"lossless": True, "exif": b"b'Exif no good'"} if kind == "WEBP" else {"dpi": (0, 0)}
    (tmp_path / "a.bin").write_bytes(encoded(PIXELS, kind, **options))
    np.testing.assert_array_equal(read_image(tmp_path / "a.bin"), PIXELS)


def test_an_index_of_further_images_that_is_broken(tmp_path: Path):
    broken = b"MPF\0" + b"II*\0" + struct.pack("<IHHHI4s", 8, 1, 0xB001, 4, 1, b"\2\0\0\0") + bytes(2)
    data = encoded(PIXELS, "JPEG", quality=95)
    segment = b"\xff\xe2" + struct.pack(">H", len(broken) + 2) + broken
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    assert read_image(tmp_path / "a.jpg").shape == PIXELS.shape


def test_profile_and_resolution_come_with_the_pixels(tmp_path: Path):
    profile = bytes(16) + b"RGB " + bytes(16) + b"acsp" + bytes(100)
    exif = orientation_exif(6)[6:]
    for name, data in {
        "a.png": png_with(PIXELS, chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)), chunk(b"eXIf", exif),
                          chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1))),
        "a.jpg": encoded(PIXELS, "JPEG", icc_profile=profile, dpi=(300, 150), exif=orientation_exif(6)),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        pixels, metadata = read_image_with_metadata(tmp_path / name)
        np.testing.assert_array_equal(pixels, read_image(tmp_path / name))
        assert metadata.profile == profile and metadata.size == (20, 30)
        assert metadata.dpi == pytest.approx((150, 300), abs=0.1)  # upright, as the pixels
    (tmp_path / "b.png").write_bytes(png_with(PIXELS, chunk(b"iCCP", b"x\0\0no zlib")))
    assert read_image_with_metadata(tmp_path / "b.png")[1][:2] == (b"", None)
