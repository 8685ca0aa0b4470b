"""The one reader of pictures and masks, and the writer of PNG.

One rule for both, whatever the file holds: the pixels are turned upright as the EXIF orientation says
(tag 0x0112; 1 where there is none), then brought to 8 bits. Plain JPEG, PNG and WebP go through OpenCV,
which is the faster; palettes, alpha, CMYK, 16 bits and every other format go through Pillow.

    kind                    picture                     mask
    grey, 1-bit             repeated to R, G and B      as it is; 1-bit becomes 0 and 255
    palette                 its colours                 greys as they are (0 and 1: 0 and 255);
                                                        a palette of labels: black 0, any other colour 255
    alpha, transparency     laid over white             laid over black: what is clear is not the object
    CMYK                    converted by Pillow         converted by Pillow
    16-bit                  65535 becomes 255           65535 becomes 255
    32-bit, float           refused                     refused

Colour profiles are not applied, as they are not by the published code of this field. An animated file
gives its first picture.
"""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.errors import DataError
from utils.files import replace_bytes

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
    }
)
"""Suffixes (lower case) that mark a file as a picture. The reader itself goes by the content."""

_ORIENTATION = 0x0112
_PNG_END = b"IEND\xaeB`\x82"
_EXIF_MARKS = (b"eXIf", b"exif", b"com.adobe.xmp")

# What brings the stored pixels upright, by the value of the EXIF orientation.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


class ImageReadError(DataError):
    """A file cannot be read as a picture."""


def read_image(path: str | Path) -> Pixels:
    """Reads a picture as upright RGB.

    Shapes:
        returns: (H, W, 3) uint8, RGB.

    Raises:
        ImageReadError: the file is missing, empty, truncated, of 32 bits, or no picture at all.
    """
    return _read(Path(path), cv2.IMREAD_COLOR_RGB, _colours)


def from_pillow(picture: Image.Image) -> Pixels:
    """An open Pillow picture as upright RGB, as `read_image` would give its file.

    Shapes:
        returns: (H, W, 3) uint8, RGB.

    Raises:
        ImageReadError: it has 32-bit values, or the file behind it is truncated.
    """
    try:
        return _turned(_colours(picture), picture)
    except ImageReadError as error:
        raise ImageReadError(f"the Pillow picture {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageReadError(f"the Pillow picture is damaged or truncated ({error}).") from error


def read_mask(path: str | Path) -> Pixels:
    """Reads a mask as upright grey values.

    A mask whose values are 0 and 1 in 8-bit grey is given back as it is, not stretched:
    whether 1 means "object" or "almost black" is not the reader's to guess.

    Shapes:
        returns: (H, W) uint8, 0 to 255.

    Raises:
        ImageReadError: the file is missing, empty, truncated, of 32 bits, or no picture at all.
    """
    return _read(Path(path), cv2.IMREAD_GRAYSCALE, _greys)


def write_png(path: str | Path, array: Pixels) -> None:
    """Writes a PNG beside its place and renames it into place, so that no half-written file is ever seen.

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
        raise DataError(f"{path}: {array.dtype} {array.shape} is no picture; give uint8 (H, W) or (H, W, 3).")
    order = orders[array.shape[2:]]
    _, encoded = cv2.imencode(suffix, array if order is None else cv2.cvtColor(array, order), options)
    replace_bytes(path, encoded.tobytes())


def _read(path: Path, flag: int, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened ({error.strerror or error}).") from error
    if not data:
        raise ImageReadError(f"{path}: the file is empty (0 bytes). Fetch or export it again.")
    try:
        picture = Image.open(io.BytesIO(data))
        pixels = _decode_plain(data, flag) if _is_plain(picture, data) else None
        if pixels is None:
            pixels = convert(picture)
        return _upright(pixels, picture, data)
    except ImageReadError as error:
        raise ImageReadError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP, BMP, TIFF, GIF or PNM"
        raise ImageReadError(f"{path}: no picture ({len(data)} bytes that are not {kinds}).") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = f"{error}".rstrip(".")
        raise ImageReadError(f"{path}: damaged or truncated ({reason}). Fetch or export it again.") from error


def _is_plain(picture: Image.Image, data: bytes) -> bool:
    """Whether OpenCV decodes this file as Pillow would: 8-bit grey or RGB, nothing clear, and whole.

    OpenCV fills the rest of a truncated JPEG with grey; so a file without its end goes to Pillow, which
    refuses it.
    """
    if "transparency" in picture.info:
        return False
    match picture.format:
        case "JPEG" | "MPO":
            # In a scan each byte FF is stuffed, so that markers stand nowhere else; a thumbnail's end comes
            # before the scan.
            return picture.mode in ("RGB", "L") and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
        case "PNG":
            eight_bit = data[24] <= 8
            return picture.mode in ("RGB", "L", "1") and eight_bit and _PNG_END in data[-64:]
        case "WEBP":
            return picture.mode == "RGB"
        case _:
            return False


def _decode_plain(data: bytes, flag: int) -> Pixels | None:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _upright(pixels: Pixels, picture: Image.Image, data: bytes) -> Pixels:
    # Pillow would decode a whole PNG to look for EXIF after the pixels; most have none at all.
    if picture.format == "PNG" and not any(mark in data for mark in _EXIF_MARKS):
        return pixels
    return _turned(pixels, picture)


def _turned(pixels: Pixels, picture: Image.Image) -> Pixels:
    turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _colours(picture: Image.Image) -> Pixels:
    if _is_deep(picture):
        return np.repeat(_eight_bits(picture)[..., None], 3, axis=2)
    return np.asarray(_opaque(picture, "white", "RGB"))


def _greys(picture: Image.Image) -> Pixels:
    if _is_deep(picture):
        return _eight_bits(picture)
    if picture.mode not in ("P", "PA"):
        return np.asarray(_opaque(picture, "black", "L"))
    colours = np.asarray(_opaque(picture, "black", "RGB"))
    if np.ptp(colours, axis=2).any():
        return np.where(colours.any(axis=2), np.uint8(255), np.uint8(0))
    greys = np.ascontiguousarray(colours[..., 0])
    return greys * np.uint8(255) if greys.max() == 1 else greys


def _is_deep(picture: Image.Image) -> bool:
    if picture.mode in ("I", "F"):
        raise ImageReadError("holds 32-bit values, whose range is unknown. Save it with 8 or 16 bits.")
    return picture.mode.startswith("I;16")


def _eight_bits(picture: Image.Image) -> Pixels:
    values = np.asarray(picture).astype(np.uint32)
    return ((values + 128) // 257).astype(np.uint8)


def _opaque(picture: Image.Image, ground: str, mode: str) -> Image.Image:
    """The picture without its alpha, laid over a plain ground; (H, W) of `mode`."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture)
    return picture.convert(mode)
