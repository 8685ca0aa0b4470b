"""The reader: every kind of file that users have, each with the values that it must give."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.errors import DataError
from data.image_io import ImageReadError, read_grey, read_image, write_jpeg, write_png
from utils.errors import UserError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREYS = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
BINARY = np.where(GREYS > 127, 255, 0).astype(np.uint8)

# What a viewer does with each EXIF orientation, written out by hand: upright[y, x] = stored[...].
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, 1),
}


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def smooth(height: int = 24, width: int = 36) -> np.ndarray:
    """An image that JPEG keeps nearly as it is, different in every corner and channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], -1).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_image_and_mask_are_upright(tmp_path: Path, orientation: int, suffix: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"lossless": True} if suffix == ".webp" else {})
    image = save(tmp_path / f"image{suffix}", COLOURS, **options)
    mask = save(tmp_path / "mask.png", BINARY, exif=exif)
    np.testing.assert_array_equal(read_image(image), UPRIGHT[orientation](COLOURS))
    np.testing.assert_array_equal(read_grey(mask), UPRIGHT[orientation](BINARY))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_upright(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "photo.jpg", smooth(), exif=exif, quality=98)
    wanted = UPRIGHT[orientation](smooth())
    got = read_image(path)
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted).mean() < 3


def test_an_orientation_outside_of_the_standard_turns_nothing(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", COLOURS, exif=exif)), COLOURS)


def test_grey_is_repeated(tmp_path: Path):
    got = read_image(save(tmp_path / "a.png", GREYS))
    np.testing.assert_array_equal(got, np.repeat(GREYS[..., None], 3, 2))
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), GREYS)


def test_alpha_lies_over_white_in_a_image_and_over_black_in_a_mask(tmp_path: Path):
    grey_alpha = np.array([[[100, 255], [100, 0], [100, 128]]], np.uint8)
    path = save(tmp_path / "la.png", grey_alpha, "LA")
    np.testing.assert_allclose(read_image(path)[0, :, 0], [100, 255, 177], atol=1)
    np.testing.assert_allclose(read_grey(path)[0], [100, 0, 50], atol=1)
    rgba = np.array([[[200, 10, 30, 255], [200, 10, 30, 0]]], np.uint8)
    path = save(tmp_path / "rgba.png", rgba)
    np.testing.assert_array_equal(read_image(path), [[[200, 10, 30], [255, 255, 255]]])


def test_palette(tmp_path: Path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[10, 20, 30], [200, 100, 50], [0, 255, 0]]])
    image.save(tmp_path / "b.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[0, 1], [255, 255, 255])


def test_cmyk_jpeg(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).convert("CMYK").save(path, quality=98)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(read_image(path).astype(int) - smooth()).mean() < 3


def test_16_bit(tmp_path: Path):
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    cv2.imwrite(f"{tmp_path / 'grey.png'}", deep)
    np.testing.assert_array_equal(read_grey(tmp_path / "grey.png")[0], [0, 0, 1, 1, 128, 255])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[0, :, 2], [0, 0, 1, 1, 128, 255])
    cv2.imwrite(f"{tmp_path / 'rgb.png'}", np.stack([deep, deep // 2, deep // 4], -1))  # B, G, R
    got = read_image(tmp_path / "rgb.png")
    np.testing.assert_allclose(got[0, :, 2], deep[0] / 257, atol=1)
    np.testing.assert_allclose(got[0, :, 0], deep[0] / 4 / 257, atol=1)
    cv2.imwrite(f"{tmp_path / 'grey.tif'}", deep)
    np.testing.assert_array_equal(read_grey(tmp_path / "grey.tif")[0], [0, 0, 1, 1, 128, 255])


def test_32_bit_is_refused(tmp_path: Path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    for read in (read_image, read_grey):
        with pytest.raises(ImageReadError, match=r"a\.tif: holds 32-bit values.*8 or 16 bits"):
            read(tmp_path / "a.tif")


def test_first_image_of_an_animation(tmp_path: Path):
    first, second = Image.fromarray(COLOURS), Image.new("RGB", (7, 5), "red")
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), COLOURS)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 5)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int]):
    array = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", array)), array)
    assert read_image(save(tmp_path / "a.jpg", array)).shape == array.shape


def test_the_suffix_does_not_matter(tmp_path: Path):
    save(tmp_path / "a.png", COLOURS).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.5, 0.9, 0.98])
def test_truncated(tmp_path: Path, kind: str, part: float):
    encoded = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(encoded, kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded.getvalue()[: int(part * len(encoded.getvalue()))])
    for read in (read_image, read_grey):
        with pytest.raises(ImageReadError, match=r"a\.jpg: .*(truncated|no image)") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_truncated_behind_a_thumbnail(tmp_path: Path):
    thumbnail = io.BytesIO()
    Image.fromarray(smooth()).save(thumbnail, "JPEG")
    comment = b"\xff\xfe" + (len(thumbnail.getvalue()) + 2).to_bytes(2, "big") + thumbnail.getvalue()
    whole = io.BytesIO()
    Image.fromarray(smooth(64, 96)).save(whole, "JPEG")
    data = whole.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + comment + data[2:])
    assert read_image(path).shape == (64, 96, 3)
    path.write_bytes(data[:2] + comment + data[2 : len(data) // 2])
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(path)


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path):
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, smooth())
        before = read_image(path)
        path.write_bytes(path.read_bytes() + bytes(200))
        np.testing.assert_array_equal(read_image(path), before)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"a\.jpg: the file is empty \(0 bytes\)"), (b"I am no image\n", r"a\.jpg: no image \(14 bytes")],
)
def test_no_image(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageReadError, match=message):
        read_image(tmp_path / "a.jpg")


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(ImageReadError, match=r"nowhere\.png: cannot be opened \(No such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image(tmp_path)


@given(
    content=st.binary(max_size=200),
    magic=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"BM"]),
)
def test_any_bytes_give_a_image_or_the_readers_own_error(tmp_path_factory, content: bytes, magic: bytes):
    path = tmp_path_factory.getbasetemp() / "fuzz.jpg"
    path.write_bytes(magic + content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert read_image(path).ndim == 3
        except ImageReadError as error:
            assert "fuzz.jpg" in str(error)


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_png_written_is_png_read(tmp_path: Path, channels: tuple[int, ...]):
    array = RNG.integers(0, 256, (6, 4, *channels), dtype=np.uint8)
    write_png(tmp_path / "new" / "folder" / "a.png", array)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "folder" / "a.png")), array)
    assert [one.name for one in (tmp_path / "new" / "folder").iterdir()] == ["a.png"]


def test_views_are_written_as_they_look(tmp_path: Path):
    write_png(tmp_path / "a.png", COLOURS[::-1, ::2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS[::-1, ::2])


def test_jpeg_written_is_near(tmp_path: Path):
    write_jpeg(tmp_path / "a.jpg", smooth())
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth()).mean() < 3


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_image_is_not_written(tmp_path: Path, array: np.ndarray):
    with pytest.raises(DataError, match=r"a\.png: .* is no image"):
        write_png(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can.t be written"):
        write_png(tmp_path / "file" / "a.png", GREYS)
