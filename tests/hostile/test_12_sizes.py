"""Point 12: memory is bounded by the pixels that are there; images that are too large are scaled or refused as such."""

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from data.image_io import ImageReadError, read_image, read_image_with_metadata
from data.preparation import prepare_array
from data.settings import AugmentConfig
from data.transforms import TrainTransform
from tests.hostile.image_bytes import chunk, colours, encoded, png_header, tiff

CLAIMS = png_header(8, 8) + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + bytes(28)
PEAK = """
import sys
from data.image_io import read_image
before = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
try:
    print(read_image(sys.argv[1]).shape)
except Exception as error:
    print(type(error).__name__, error)
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) - before)
"""


def read_in_a_process(root: Path, path: Path) -> tuple[str, int]:
    """What reading a file gave, and by how many MiB it raised the peak of memory."""
    run = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(run, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    told, grown = done.stdout.strip().splitlines()
    return told, int(grown) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("content", "most"),
    [
        (CLAIMS, 60),
        (png_header(13_000, 13_000) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""), 60),
        (b"P6 13000 13000 255\n" + bytes(100), 60),
        (b"GIF89a" + struct.pack("<HHBBB", 13_000, 13_000, 0xF0, 0, 0) + bytes(6) + b",", 60),
    ],
    ids=["chunk", "header", "pnm", "gif"],
)
def test_memory_follows_the_bytes_that_are_there(root: Path, tmp_path: Path, content: bytes, most: int):
    (tmp_path / "a.png").write_bytes(content)
    told, grown = read_in_a_process(root, tmp_path / "a.png")
    assert told.startswith("ImageReadError") and "damaged or truncated" in told
    assert grown < most


def test_a_jpeg_above_the_limit_is_scaled_while_it_is_decoded(tmp_path: Path):
    pixels = colours(400, 600)
    (tmp_path / "a.jpg").write_bytes(encoded(pixels, "JPEG", quality=95))
    for limit, shape in ((240_000, (400, 600)), (239_999, (200, 300)), (20_000, (100, 150)), (4000, (50, 75))):
        got, metadata = read_image_with_metadata(tmp_path / "a.jpg", limit)
        assert got.shape == (*shape, 3) and metadata.size == (600, 400)
        step = 400 // shape[0]
        expected = pixels.reshape(shape[0], step, shape[1], step, 3).mean(axis=(1, 3))
        assert np.abs(got - expected).mean() < 3
    with pytest.raises(ImageReadError, match=r"megapixels, above the limit of .*--max-megapixels"):
        read_image(tmp_path / "a.jpg", 3000)


def test_a_jpeg_of_200_megapixels(root: Path, tmp_path: Path):
    """The header of a real file of that size, whose scan is one grey: 0.4 MB of the same Huffman codes."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        Image.new("L", (16_320, 12_240), 90).save(tmp_path / "a.jpg", quality=10)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    told, grown = read_in_a_process(root, tmp_path / "a.jpg")
    assert told == "(6120, 8160, 3)"
    assert grown < 500


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_other_formats_above_the_limit_are_too_large_not_damaged(tmp_path: Path, kind: str):
    (tmp_path / "a").write_bytes(encoded(colours(40, 60), kind))
    with pytest.raises(ImageReadError, match=r"60x40 pixels are 0 megapixels, above the limit of 0.*max-megapixels"):
        read_image(tmp_path / "a", 2399)
    assert read_image(tmp_path / "a", 2400).shape == (40, 60, 3)


def test_a_claimed_size_above_the_limit_is_named(tmp_path: Path):
    width = height = 30_000
    grey = png_header(width, height, 0)
    row = zlib.compress(bytes(width + 1) * height, 1)
    (tmp_path / "a.png").write_bytes(grey + chunk(b"IDAT", row) + chunk(b"IEND", b""))
    with pytest.raises(ImageReadError, match=r"30000x30000 pixels are 900 megapixels, above the limit of 179"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.tif").write_bytes(re.sub(b"(?s)^", b"", tiff(colours(4, 5).astype(np.uint16), 2, planar=True)))
    with pytest.raises(ImageReadError, match=r"5x4 pixels .* above the limit"):
        read_image(tmp_path / "b.tif", 19)


@pytest.mark.parametrize(("width", "height"), [(1_040_000, 1), (1, 200_000), (40_000, 3)])
def test_extreme_shapes(tmp_path: Path, width: int, height: int, capfd: pytest.CaptureFixture[str]):
    rows = zlib.compress((b"\0" + bytes(range(250, 256)) * (width // 2 + 1))[: 3 * width + 1] * height)
    (tmp_path / "a.png").write_bytes(png_header(width, height) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    image = read_image(tmp_path / "a.png")
    assert image.shape == (height, width, 3) and image.min() >= 250 - 250 * (width == 1)
    assert prepare_array(image, 64).shape == (64, 64, 3)
    transform = TrainTransform(AugmentConfig(rotate=10))
    tensor, mask = transform(image, image[..., 0], 64, np.random.default_rng(0))
    assert tensor.shape == (3, 64, 64) and mask.shape == (1, 64, 64)
    assert capfd.readouterr() == ("", "")
