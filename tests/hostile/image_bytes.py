"""Writes files of images that no library writes: TIFF by hand, PNG chunk by chunk, JPEG with any EXIF."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def colours(height: int = 20, width: int = 30) -> np.ndarray:
    """(H, W, 3) uint8, smooth and different in every corner and channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], -1).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, colour: int = 2) -> bytes:
    """Magic bytes and header of an 8-bit PNG."""
    return PNG_MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    """An image in a format of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def png_with(array: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    data = encoded(array, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(array: np.ndarray, *segments: bytes) -> bytes:
    """A JPEG with APP1 segments of these contents."""
    data = encoded(array, "JPEG", quality=95)
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in segments) + data[2:]


def orientation_exif(value: int, order: str = "<") -> bytes:
    """EXIF with an orientation alone."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return b"Exif\0\0" + head + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, value, 0, 0)


def tiff(
    samples: np.ndarray, photometric: int, order: str = "<", planar: bool = False, extra: int | None = None,
    signed: bool = False, orientation: int | None = None,
) -> bytes:  # fmt: skip
    """An uncompressed TIFF.

    Args:
        samples: (H, W, C) uint8 or uint16.
        photometric: 0 white is zero, 1 black is zero, 2 RGB.
        order: byte order.
        planar: each sample in a plane of its own.
        extra: meaning of the last sample: 0 unspecified, 1 or 2 alpha.
        signed: declares the samples as signed.
        orientation: value of the tag.
    """
    height, width, count = samples.shape
    stored = samples.astype(samples.dtype.newbyteorder(order))
    planes = [stored[..., i].tobytes() for i in range(count)] if planar else [stored.tobytes()]
    starts = [8 + sum(map(len, planes[:i])) for i in range(len(planes))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [8 * samples.itemsize] * count), 259: ("H", [1]),
        262: ("H", [photometric]), 273: ("I", starts), 277: ("H", [count]), 278: ("H", [height]),
        279: ("I", [len(plane) for plane in planes]), 284: ("H", [2 if planar else 1]),
    }  # fmt: skip
    for tag, value in ((274, orientation), (338, extra)):
        if value is not None:
            tags[tag] = ("H", [value])
    if signed:
        tags[339] = ("H", [2] * count)
    body = b"".join(planes)
    start, tail, entries = 8 + len(body), b"", b""
    for tag, (code, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(raw) > 4:
            place = struct.pack(order + "I", start + 6 + 12 * len(tags) + len(tail))
            tail += raw
        else:
            place = raw.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[code], len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4) + tail
