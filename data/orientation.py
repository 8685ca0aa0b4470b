"""The EXIF orientation of an image: read where it is valid, ignored where it is not."""

import re
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.containers import PngContent

Pixels = NDArray[np.uint8]

ORIENTATION = 0x0112
"""The tag, of EXIF and of TIFF."""

# Brings the stored pixels upright, by the value of the EXIF orientation.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an open Pillow image: 1 to 8; 1 where it is missing, invalid or unreadable."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def png_orientation(png: PngContent) -> int:
    """As `orientation`, from the EXIF or XMP metadata of a PNG."""
    exif = Image.Exif()
    with suppress(Exception):
        exif.load(b"Exif\0\0" + png.exif)
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', png.xmp)
    value = exif.get(ORIENTATION, int(found[1]) if found else 1)
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def turned(pixels: Pixels, value: int) -> Pixels:
    """Pixels turned upright by the value of an EXIF orientation."""
    turn = _UPRIGHT.get(value)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
