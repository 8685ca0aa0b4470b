"""The reader of images and the writer of PNG and JPEG.

One rule for every file: the pixels are turned upright by the EXIF orientation (tag 0x0112; 1 where there is none),
then brought to 8 bits. Plain JPEG, PNG and WebP are decoded by OpenCV, which is faster; palettes, alpha, CMYK, 16 bits
and every other format by Pillow; unusual TIFF layouts by `data.tiff`.

    kind                    image                       grey values (`read_grey`)
    grey, 1-bit             repeated to R, G and B      as they are; 1-bit becomes 0 and 255
    palette                 its colours                 grey of its colours
    alpha, transparency     over white                  over black
    BMP, alpha 0 throughout opaque                      opaque
    CMYK                    converted by Pillow         converted by Pillow
    16-bit                  65535 becomes 255           65535 becomes 255
    32-bit, float           refused                     refused

Masks are read by `data.masks`, which supports their codings. Colour profiles are not applied, as in the published code
of this field. The first image of an animated file is read.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from data.errors import DataError
from data.image_files import (
    IMAGE_SUFFIXES,
    PIXEL_LIMIT,
    ImageReadError,
    OpenImage,
    Pixels,
    Source,
    eight_bits,
    open_image,
    reading,
)
from data.orientation import orientation, turned
from utils.files import replace_bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageMetadata",
    "ImageReadError",
    "Pixels",
    "decode_with_metadata",
    "from_pillow",
    "read_grey",
    "read_image",
    "read_image_with_metadata",
    "write_jpeg",
    "write_png",
]

_LARGE = 1 << 24  # pixels
_STRIP = 256  # rows
_WIDEST = 1_000_000  # libpng's limit of a row, which it prints to the console


class ImageMetadata(NamedTuple):
    """What a cutout keeps of its image.

    Attributes:
        profile: ICC profile of RGB colours; empty if there is none that fits.
        dpi: horizontal and vertical dots per inch of the upright image; None if not stated.
        size: width and height of the upright image in the file; the pixels are fewer if it was scaled while decoding.
    """

    profile: bytes
    dpi: tuple[float, float] | None
    size: tuple[int, int]


def read_image(path: str | Path, max_pixels: int = PIXEL_LIMIT) -> Pixels:
    """Reads an image as upright RGB.

    Args:
        path: the file.
        max_pixels: a larger JPEG is scaled by 1/2, 1/4 or 1/8 while it is decoded; other formats are refused.

    Shapes:
        returns: (H, W, 3) uint8, RGB.

    Raises:
        ImageReadError: the file is missing, empty, truncated, too large, of 32 bits, or no supported image.
    """
    path = Path(path)
    with reading(path):
        return _upright_colours(open_image(path, max_pixels))


def read_image_with_metadata(source: Source, max_pixels: int = PIXEL_LIMIT) -> tuple[Pixels, ImageMetadata]:
    """Reads an image as `read_image`, and its colour profile and resolution from the same bytes.

    Raises:
        ImageReadError: see `read_image`. Broken metadata is ignored.
    """
    with reading(source):
        return decode_with_metadata(open_image(source, max_pixels))


def decode_with_metadata(opened: OpenImage) -> tuple[Pixels, ImageMetadata]:
    """Pixels, (H, W, 3) uint8 RGB, and metadata of a file whose header is read. Use it inside `reading(path)`."""
    profile, dpi, size = _profile(opened), _dpi(opened), opened.size
    if opened.orientation > 4:
        size = (size[1], size[0])
        dpi = None if dpi is None else (dpi[1], dpi[0])
    return _upright_colours(opened), ImageMetadata(profile, dpi, size)


def read_grey(path: str | Path) -> Pixels:
    """Reads a saliency map or another grey image as upright grey values. Masks are read by `data.masks.read_mask`.

    Shapes:
        returns: (H, W) uint8, 0 to 255.

    Raises:
        ImageReadError: the file is missing, empty, truncated, of 32 bits, or no supported image.
    """
    path = Path(path)
    with reading(path):
        opened = open_image(path)
        pixels = decode_plain(opened, cv2.IMREAD_GRAYSCALE)
        return opened.upright(_greys(opened.image) if pixels is None else pixels)


def from_pillow(image: Image.Image) -> Pixels:
    """An open Pillow image as upright RGB, as `read_image` would give its file.

    Shapes:
        returns: (H, W, 3) uint8, RGB.

    Raises:
        ImageReadError: it has 32-bit values, or the file behind it is truncated.
    """
    try:
        return turned(_colours(image), orientation(image))
    except ImageReadError as error:
        raise ImageReadError(f"the Pillow image {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageReadError(f"the Pillow image is damaged or truncated ({error}).") from error


def write_png(path: str | Path, array: Pixels) -> None:
    """Writes a PNG beside its place and renames it into place, so that no half-written file is visible.

    Args:
        path: where; missing folders are made.
        array: grey, RGB or RGBA.

    Shapes:
        array: (H, W), (H, W, 3) or (H, W, 4) uint8.

    Raises:
        DataError: the array is not of such a kind.
        UserError: the file can't be written there.
    """
    _write(Path(path), array, ".png", [])


def write_jpeg(path: str | Path, array: Pixels, quality: int = 95) -> None:
    """Writes a JPEG, whole or not at all, as `write_png`.

    Args:
        path: where; missing folders are made.
        array: grey or RGB.
        quality: 1 to 100.

    Shapes:
        array: (H, W) or (H, W, 3) uint8.

    Raises:
        DataError: the array is not of such a kind.
        UserError: the file can't be written there.
    """
    _write(Path(path), array, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _write(path: Path, array: Pixels, suffix: str, options: list[int]) -> None:
    # OpenCV takes the channels in the order B, G, R.
    orders = {(): None, (3,): cv2.COLOR_RGB2BGR} | ({(4,): cv2.COLOR_RGBA2BGRA} if suffix == ".png" else {})
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in orders or not array.size:
        raise DataError(f"{path}: {array.dtype} {array.shape} is no image; give uint8 (H, W) or (H, W, 3).")
    order = orders[array.shape[2:]]
    _, encoded = cv2.imencode(suffix, array if order is None else cv2.cvtColor(array, order), options)
    replace_bytes(path, encoded.data)


def decode_plain(opened: OpenImage, flag: int) -> Pixels | None:
    """The stored pixels by OpenCV, or None where it would decode otherwise than Pillow.

    Args:
        opened: the file.
        flag: `cv2.IMREAD_COLOR_RGB` or `cv2.IMREAD_GRAYSCALE`.
    """
    if not _is_plain(opened):
        return None
    pixels = cv2.imdecode(np.frombuffer(opened.data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def check_depth(image: Image.Image) -> bool:
    """Whether an image has 16 bits.

    Raises:
        ImageReadError: it has 32 bits.
    """
    if image.mode in ("I", "F"):
        raise ImageReadError("holds 32-bit values, whose range is unknown. Save it with 8 or 16 bits.")
    return image.mode.startswith("I;16")


def flattened(image: Image.Image, background: str, mode: str) -> Image.Image:
    """The image in `mode`, without its alpha, over a background colour."""
    if image.has_transparency_data and not _is_clear_bmp(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image if image.mode == mode else image.convert(mode)


def _upright_colours(opened: OpenImage) -> Pixels:
    pixels = decode_plain(opened, cv2.IMREAD_COLOR_RGB)
    return opened.upright(_colours(opened.image) if pixels is None else pixels)


def _is_plain(opened: OpenImage) -> bool:
    """Whether OpenCV decodes this file as Pillow would: 8-bit grey or RGB, opaque, and whole.

    OpenCV fills the rest of a truncated JPEG with grey. A file without its end is therefore left to Pillow, which
    refuses it.
    """
    image, data = opened.image, opened.data
    if "transparency" in image.info or opened.is_scaled or max(image.size) > _WIDEST:
        return False
    match image.format:
        case "JPEG":
            # Bytes FF are stuffed in a scan, so that markers occur only between scans. The end of a thumbnail lies
            # before the scan.
            return image.mode in ("RGB", "L") and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
        case "PNG":
            png = opened.png
            return image.mode in ("RGB", "L", "1") and png is not None and png.bits <= 8 and png.whole
        case "WEBP":
            return image.mode == "RGB"
        case _:
            return False


def _colours(image: Image.Image) -> Pixels:
    if check_depth(image):
        return np.repeat(eight_bits(np.asarray(image))[..., None], 3, axis=2)
    return _array(flattened(image, "white", "RGB"))


def _array(image: Image.Image) -> Pixels:
    """The pixels of an image; large ones in strips, since Pillow holds three copies of what it converts at once."""
    width, height = image.size
    if width * height < _LARGE or image.mode != "RGB":
        return np.asarray(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _greys(image: Image.Image) -> Pixels:
    return eight_bits(np.asarray(image)) if check_depth(image) else np.asarray(flattened(image, "black", "L"))


def _is_clear_bmp(image: Image.Image) -> bool:
    """Whether this is a BMP with an alpha of 0 throughout, which many programs write for opaque images."""
    return image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _profile(opened: OpenImage) -> bytes:
    profile = opened.image.info.get("icc_profile") if opened.png is None else opened.png.profile
    if not isinstance(profile, bytes) or len(profile) <= 128 or profile[36:40] != b"acsp":
        return b""
    # A profile of grey or CMYK does not describe the RGB pixels that are returned.
    return profile if profile[16:20] == b"RGB " and opened.image.mode != "CMYK" else b""


def _dpi(opened: OpenImage) -> tuple[float, float] | None:
    dpi = opened.image.info.get("dpi") if opened.png is None else opened.png.dpi
    try:
        x, y = (float(value) for value in dpi or ())
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if min(x, y) >= 1 and max(x, y) <= 1e5 else None
