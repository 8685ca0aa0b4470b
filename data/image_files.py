"""Opens image files: recognised by content, bounded by what they hold, upright by their orientation.

Only the formats of `FORMATS` are opened. Metadata is ignored where it is broken. A size in a header counts only if the
file has bytes enough for it.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from data import containers
from data.errors import DataError
from data.orientation import ORIENTATION, Pixels, orientation, png_orientation, turned
from data.tiff import TiffLayout, read_layout, read_samples
from utils.errors import one_line

PIXEL_LIMIT = 178_956_970
"""Pixels of the largest image that is decoded in full: 512 MiB of RGB, the limit of Pillow."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "HEIF")
"""Formats in the names of Pillow. HEIF needs the package pillow-heif."""

FORMAT_NAMES = "JPEG, PNG, WebP, BMP, TIFF, GIF, PNM, AVIF, JPEG 2000"

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    [
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
        ".avif",
        ".jp2",
    ]
)
"""Suffixes (lower case) of the files that are searched for in folders. The reader itself uses the content."""

UNSUPPORTED_SUFFIXES: frozenset[str] = frozenset(
    [
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".psd",
        ".svg",
        ".eps",
        ".dds",
        ".tga",
        ".exr",
        ".hdr",
        ".ico",
        ".raw",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".raf",
    ]
)
"""Suffixes of images that are not supported: they are reported where a folder is searched."""

# Pixels that a byte of a compressed file can hold at most: Huffman codes of at least two bits for 64 pixels; LZW codes.
_PIXELS_PER_BYTE = {"JPEG": 512, "GIF": 4096, "PPM": 8}
_DEFLATE = 1032  # bytes that a byte of Deflate can hold at most
_SLACK = 1 << 20
_HEAD = 1 << 12
_END_OF_CODESTREAM = b"\xff\xd9"
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%!ps", "PostScript"),
    (b"%pdf", "PDF"),
    (b"<!doctype html", "a web page (HTML)"),
    (b"<html", "a web page (HTML)"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (b"8bps", "Photoshop"),
    (b"dds ", "DDS"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\xff\x0a", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"})


class ImageReadError(DataError):
    """A file cannot be read as an image."""


@dataclass(frozen=True)
class Encoded:
    """An image file that is held in memory, such as a member of an archive.

    Attributes:
        name: what messages call it.
        data: its content.
    """

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


Source = Path | Encoded
"""Where an image is read from."""


@dataclass(frozen=True)
class OpenImage:
    """An image file of which the header is read.

    Attributes:
        data: content of the file; without metadata if it is a PNG.
        image: opened by Pillow, not decoded.
        png: the separated content of a PNG; None for other formats.
        samples: pixels that Pillow cannot read, (H, W, C) uint8 or uint16; None if it can.
        orientation: EXIF orientation, 1 to 8; 1 if none or an invalid one is stated.
        size: stored width and height; those of `image` are smaller where it is scaled while decoding.
    """

    data: bytes
    image: Image.Image
    png: containers.PngContent | None
    samples: NDArray[np.uint8] | NDArray[np.uint16] | None
    orientation: int
    size: tuple[int, int]

    @property
    def is_scaled(self) -> bool:
        """Whether the decoder gives a smaller image than the file holds."""
        return self.image.size != self.size

    def upright(self, pixels: Pixels) -> Pixels:
        """Stored pixels turned upright: contiguous, (H, W) or (H, W, C)."""
        return turned(pixels, self.orientation)


@contextmanager
def reading(path: Source) -> Iterator[None]:
    """Converts every error of a decoder to an `ImageReadError` that names the file.

    Decoders raise what they like: `RuntimeError`, `NotImplementedError`, `KeyError`, `struct.error`.
    """
    try:
        yield
    except ImageReadError as error:
        raise ImageReadError(f"{path}: {error}") from None
    except DataError:
        raise
    except MemoryError as error:
        raise ImageReadError(f"{path}: not enough memory to decode it. Scale the image down.") from error
    except Exception as error:
        reason = one_line(str(error)).rstrip(".")[:120] or type(error).__name__
        raise ImageReadError(f"{path}: damaged or truncated ({reason}). Download or export it again.") from error


def open_image(path: Source, max_pixels: int = PIXEL_LIMIT) -> OpenImage:
    """Opens an image file and reads its header. Use it inside `reading(path)`.

    Args:
        path: the file.
        max_pixels: above it a JPEG is scaled by 1/2, 1/4 or 1/8 while it is decoded; other formats are refused.

    Raises:
        ImageReadError: the file is missing, empty, of another format or too large.
    """
    data = _content(path)
    layout = read_layout(data)
    if layout is not None and (layout.is_misread or not _pillow_reads(data)):
        return _open_tiff(data, layout, max_pixels)
    png = containers.read_png(data) if data.startswith(containers.PNG_MAGIC) else None
    data = data if png is None else png.data
    image = _pillow(data)
    size = image.size
    _check_content(image, png, data)
    _bound(image, max_pixels)
    value = orientation(image) if png is None else png_orientation(png)
    # Pillow itself turns a TIFF upright while it decodes.
    return OpenImage(data, image, png, None, 1 if image.format == "TIFF" else value, size)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuses an image of more pixels than the limit.

    Raises:
        ImageReadError: with both numbers and the option that raises the limit.
    """
    if width * height > max_pixels:
        raise ImageReadError(
            f"{width}x{height} pixels are {width * height / 1e6:.0f} megapixels, above the limit of "
            f"{max_pixels / 1e6:.0f}. Scale the image down, or raise the limit with --max-megapixels."
        )


def _open_tiff(data: bytes, layout: TiffLayout, max_pixels: int) -> OpenImage:
    width, height = layout.value(256, 0), layout.value(257, 0)
    if not layout.is_supported or width < 1 or height < 1:
        raise ImageReadError(f"a TIFF with {layout.text}, which is not supported. Save it as 8-bit RGB.")
    check_size(width, height, max_pixels)
    samples = read_samples(data, layout)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    eight = samples.astype(np.uint8, copy=False) if samples.dtype == np.uint8 else eight_bits(samples.astype(np.uint16))
    image = Image.fromarray(eight[..., 0] if mode == "L" else np.ascontiguousarray(eight), mode)
    value = layout.value(ORIENTATION)
    return OpenImage(data, image, None, samples, value if 1 <= value <= 8 else 1, (width, height))


def eight_bits(values: NDArray[np.uint16]) -> Pixels:
    """16-bit values as the nearest 8-bit ones: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _pillow_reads(data: bytes) -> bool:
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data)).close()
    except SyntaxError:
        return False
    return True


def _pillow(data: bytes) -> Image.Image:
    """The image opened by the only plugin that its content allows, metadata left out where the plugin fails on it."""
    if data.startswith(b"\xff\xd8"):
        # Not Pillow's factory: it reads the index of further images first and fails with it.
        try:
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        except Exception:
            return JpegImagePlugin.JpegImageFile(io.BytesIO(containers.without_segments(data)))
    failed: SyntaxError | None = None
    for factory in _plugins(data):
        try:
            return factory(io.BytesIO(data), "")
        except SyntaxError as error:
            failed = error
    if failed is None or data[8:12] in _HEIF_BRANDS:
        raise ImageReadError(_described(data, len(data)))
    raise failed


def _content(source: Source) -> bytes:
    """The bytes of a file, read only if it may hold a supported image."""
    if isinstance(source, Encoded):
        return _image_bytes(source.data[:_HEAD], len(source.data), lambda: source.data[_HEAD:])
    try:
        with source.open("rb") as file:
            return _image_bytes(file.read(_HEAD), source.stat().st_size, file.read)
    except OSError as error:
        raise ImageReadError(f"cannot be opened ({error.strerror or error}).") from error


def _image_bytes(head: bytes, size: int, rest: Callable[[], bytes]) -> bytes:
    if not head:
        raise ImageReadError("the file is empty (0 bytes). Download or export it again.")
    start = head.lstrip(b"\r\n")
    jpeg = start.startswith(b"\xff\xd8")
    if not jpeg and not _plugins(head):
        raise ImageReadError(_described(head, size))
    return (start if jpeg else head) + rest()


def _plugins(data: bytes) -> list[Callable[[IO[bytes], str | bytes], Image.Image]]:
    """The plugins of Pillow whose format the file's first bytes state."""
    _load_plugins(data)
    plugins = (Image.OPEN.get(name, (None, None)) for name in FORMATS)
    return [factory for factory, accepts in plugins if factory and accepts and accepts(data[:16]) is True]


def _load_plugins(data: bytes) -> None:
    # All of them, not one: another thread may be in the middle of loading them; `init` then waits for it.
    if not set(FORMATS) - {"HEIF"} <= Image.OPEN.keys():
        Image.init()
    if data[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:  # Python searches anew for a package that is missing
        with suppress(ImportError):
            import pillow_heif  # pyright: ignore[reportMissingImports]

            pillow_heif.register_heif_opener()


def _described(data: bytes, size: int) -> str:
    """Why a file of these first bytes and this size is no image that is read here."""
    start = data[:64].lstrip().lower()
    found = next((name for magic, name in _OTHERS if start.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        heif = data[8:12] in _HEIF_BRANDS
        found = "HEIC, which needs `pip install pillow-heif`" if heif else "a video or an unsupported ISO file"
    if found is not None:
        return f"no supported image, but {found}. Supported: {FORMAT_NAMES}."
    return f"no image ({size} bytes that are not {FORMAT_NAMES})."


def _check_content(image: Image.Image, png: containers.PngContent | None, data: bytes) -> None:
    """Refuses a header that claims more pixels than the bytes of the file can hold."""
    pixels, size = image.size[0] * image.size[1], len(data)
    if png is not None:
        most = 8 * _DEFLATE * png.packed // png.bits
    else:
        most = _PIXELS_PER_BYTE.get(image.format or "", pixels) * size
    if image.format == "JPEG2000" and data.rfind(_END_OF_CODESTREAM) < 0:
        raise ValueError("truncated: the end of the codestream is missing")  # OpenJPEG fills it without an error
    if pixels > most + _SLACK:
        raise ValueError(f"truncated: {image.size[0]}x{image.size[1]} pixels do not fit into {size} bytes")


def _bound(image: Image.Image, max_pixels: int) -> None:
    """Scales a JPEG that is too large while it is decoded; refuses other formats."""
    width, height = image.size
    scale = next((one for one in (1, 2, 4, 8) if width * height <= max_pixels * one * one), 1)
    if scale > 1 and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(image.mode, (width // scale, height // scale))
    check_size(*image.size, max_pixels)
