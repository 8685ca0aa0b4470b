"""Point 9: only listed formats are opened, by content; a damaged file of any format fails alone, in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.image_io import ImageReadError, read_image
from tests.hostile.image_bytes import colours, encoded

PIXELS = colours(64, 64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n", "PostScript"),
        (b"<!DOCTYPE html><html><body>403</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "video"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "pillow-heif"),
        (b"DDS " + bytes(124), "DDS"),
        (b"8BPS\0\1" + bytes(60), "Photoshop"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "SGI", "DDS", "ICNS", "IM", "MSP", "XBM"])
def test_formats_that_are_not_listed_are_never_decoded(tmp_path: Path, kind: str):
    mode = {"MSP": "1", "XBM": "1"}.get(kind, "RGB")
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "a.png", kind)
    with pytest.raises(ImageReadError, match="Supported: JPEG|not JPEG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.98])
def test_a_truncated_file_is_damaged_whatever_its_decoder_raises(tmp_path: Path, kind: str, part: float):
    data = encoded(PIXELS, kind)
    (tmp_path / "a.jpg").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageReadError, match="damaged or truncated"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, KeyError, OverflowError, AssertionError])
def test_whatever_a_decoder_raises_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
):
    def fail(*arguments: object) -> None:
        raise error("Conversion from YUV failed")

    (tmp_path / "a.gif").write_bytes(encoded(PIXELS, "GIF"))
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.load", fail)
    with pytest.raises(ImageReadError, match="damaged or truncated .*Conversion from YUV failed"):
        read_image(tmp_path / "a.gif")


def test_the_suffix_decides_nothing(tmp_path: Path):
    for name in ("a.ps", "a.txt", "a", "a.heic"):
        (tmp_path / name).write_bytes(encoded(PIXELS, "PNG"))
        np.testing.assert_array_equal(read_image(tmp_path / name), PIXELS)
    (tmp_path / "b.jpg").write_bytes(encoded(PIXELS, "AVIF", quality=100))
    assert np.abs(read_image(tmp_path / "b.jpg").astype(int) - PIXELS).mean() < 3


def test_the_first_images_of_a_process_are_read_in_several_threads(root, tmp_path):
    """Pillow loads its plugins once, one after the other; no thread may take a half-loaded list for the whole."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif")
    code = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from data.image_io import read_image\n"
        "sys.setswitchinterval(1e-6)\n"
        "with ThreadPoolExecutor(16) as pool: list(pool.map(read_image, sys.argv[1:] * 16))"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, tmp_path / "a.tif"], cwd=root, check=True)
