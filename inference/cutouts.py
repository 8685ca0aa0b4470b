"""How a cutout looks and how it is written: background, crop, file format, colour profile and resolution.

Shared by cutout.py and test.py; imports no PyTorch.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, ImageColor

from data.image_io import Pixels, read_image
from inference import compositing
from utils.errors import UserError
from utils.files import write_beside

KINDS = ("rgba", "map", "white", "green", "blur", "overlay")
"""Words of `--type`; a colour or an image file is given as it is."""
SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg")
"""Formats of a written file, by its suffix in lower case."""

_WORDS = {"white": (255, 255, 255), "green": (0, 255, 0)}
_HEADER = 33  # bytes of a PNG before its second chunk
_METRE = 0.0254  # of an inch
_LARGE = 1 << 26  # bytes of pixels


class CutoutError(UserError):
    """A type, a margin or a file format that is not supported."""


@dataclass(frozen=True)
class Style:
    """How a cutout looks.

    Attributes:
        kind: one of `KINDS`, or `plain` or `image` for a background of the user's.
        background: the colour of `plain`, the pixels of `image`.
        despilled: whether to remove the old background from the colours, see `compositing.despill`.
        crop: margin around the object's box as a share of its longer side; None leaves the image's size.
    """

    kind: str = "rgba"
    background: Pixels | compositing.Colour | None = None
    despilled: bool = True
    crop: float | None = None

    @classmethod
    def parse(cls, kind: str = "rgba", despilled: bool = True, crop: float | None = None) -> "Style":
        """A style from `--type`: a word of `KINDS`, a colour such as `red` or `#ff8000`, or an image file.

        Raises:
            CutoutError: it is none of them, or the margin is out of range.
            ImageReadError: the file cannot be read.
        """
        if crop is not None and not 0 <= crop <= 1:
            raise CutoutError(f"--crop {crop:g}: the margin is a share of the object's longer side, from 0 to 1.")
        if kind in _WORDS:
            return cls("plain", _WORDS[kind], despilled, crop)
        if kind in KINDS:
            return cls(kind, None, despilled, crop)
        if _is_file(kind):
            return cls("image", read_image(kind), despilled, crop)
        try:
            red, green, blue = ImageColor.getrgb(kind)[:3]
        except ValueError:
            raise CutoutError(
                f"--type {kind}: neither {', '.join(KINDS)}, nor a colour such as red or #ff8000, nor an image file."
            ) from None
        return cls("plain", (red, green, blue), despilled, crop)

    @property
    def has_alpha(self) -> bool:
        """Whether the result is RGBA."""
        return self.kind == "rgba"

    def compose(self, image: Pixels, saliency: Pixels) -> Pixels:
        """The cutout of an image.

        Shapes:
            image: (H, W, 3); saliency: (H, W).
            returns: (h, w, 4) for `rgba`, (h, w) for `map`, else (h, w, 3); (h, w) is (H, W) unless cropped.
        """
        whole = self._whole(image, saliency)
        return whole if self.crop is None else whole[compositing.object_box(saliency, self.crop)]

    def _whole(self, image: Pixels, saliency: Pixels) -> Pixels:
        match self.kind:
            case "rgba":
                return compositing.cut_out(image, saliency, self.despilled)
            case "map":
                return saliency
            case "overlay":
                return compositing.overlay(image, saliency)
            case "blur":
                behind = compositing.blurred_background(image, saliency)
            case "image" if isinstance(self.background, np.ndarray):
                behind = compositing.fit_background(self.background, (image.shape[0], image.shape[1]))
            case _:
                behind = self.background
        assert behind is not None, self.kind
        return compositing.on_background(image, saliency, behind, self.despilled)


def _is_file(text: str) -> bool:
    """Whether there is such a file; a text that no file can be named by is none."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def check_format(path: Path, alpha: bool) -> None:
    """Makes sure that a file of this name can hold the result.

    Raises:
        CutoutError: the suffix is not supported, or the format has no transparency.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise CutoutError(f"{path}: the suffix '{path.suffix}' is not supported. Use one of {', '.join(SUFFIXES)}.")
    if alpha and path.suffix.lower() in (".jpg", ".jpeg"):
        raise CutoutError(f"{path}: JPEG has no transparency. Write PNG, or add a background, such as --type white.")


def write_cutout(path: Path, array: Pixels, profile: bytes = b"", dpi: tuple[float, float] | None = None) -> None:
    """Writes an image in the format of the suffix, whole or not at all; see `encode_to` for the arguments.

    Raises:
        CutoutError: see `check_format`.
        WriteError: the file cannot be written.
    """
    check_format(path, array.shape[2:] == (4,))

    def write(part: Path) -> None:
        with part.open("w+b") as file:
            encode_to(file, array, path.suffix.lower(), profile, dpi)

    write_beside(path, write)


def encode(array: Pixels, suffix: str = ".png", profile: bytes = b"", dpi: tuple[float, float] | None = None) -> bytes:
    """The content of an image file; see `encode_to`."""
    stream = io.BytesIO()
    encode_to(stream, array, suffix, profile, dpi)
    return stream.getvalue()


def encode_to(
    file: IO[bytes],
    array: Pixels,
    suffix: str = ".png",
    profile: bytes = b"",
    dpi: tuple[float, float] | None = None,
) -> None:
    """Writes the content of an image file.

    Args:
        file: where to.
        array: grey, RGB or RGBA.
        suffix: one of `SUFFIXES`; WebP and TIFF are lossless, JPEG has quality 95.
        profile: ICC profile of the colours; empty if none.
        dpi: horizontal and vertical resolution.

    Shapes:
        array: (H, W), (H, W, 3) or (H, W, 4).
    """
    if suffix == ".png" and array.size < _LARGE:
        file.writelines(_png(array, profile, dpi))
        return
    known: dict[str, Any] = {"icc_profile": profile or None}
    if dpi and suffix == ".webp":
        known["exif"] = _resolution(dpi)
    elif dpi:
        known["dpi"] = dpi
    image = Image.fromarray(np.ascontiguousarray(array))
    match suffix:
        case ".png":  # by Pillow, which is slower and needs no copies of the pixels
            image.save(file, "PNG", compress_level=1, **known)
        case ".webp":
            image.save(file, "WEBP", lossless=True, exact=True, **known)
        case ".tif" | ".tiff":
            image.save(file, "TIFF", compression="tiff_adobe_deflate", **known)
        case _:
            image.save(file, "JPEG", quality=95, subsampling=0, **known)


def _resolution(dpi: tuple[float, float]) -> bytes:
    """EXIF that holds only the resolution, for WebP, which has no field for it."""
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = *dpi, 2  # per inch
    return exif.tobytes()


def _png(array: Pixels, profile: bytes, dpi: tuple[float, float] | None) -> list[bytes | memoryview]:
    """Encoded by OpenCV, which is fast; the chunks that it cannot write are put behind the header."""
    orders = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    encoded = cv2.imencode(".png", array if array.ndim == 2 else cv2.cvtColor(array, orders[array.shape[2]]))[1].data
    chunks = [_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))] if profile else []
    if dpi is not None:
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", round(dpi[0] / _METRE), round(dpi[1] / _METRE), 1)))
    return [encoded[:_HEADER], *chunks, encoded[_HEADER:]]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
