"""Containers of images: PNG chunks and JPEG segments, walked so that metadata never decides whether pixels are read.

Decoders refuse a whole file for a broken profile or a long comment, and one of them allocates what a chunk's header
claims. They therefore get a PNG without metadata, and a JPEG without it where they refuse the original.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_LARGEST = 1 << 24  # of a profile or of other metadata, in bytes
_XMP = b"XML:com.adobe.xmp\0"
_KEPT_SEGMENTS = frozenset({0xE0, 0xEE})  # JFIF and Adobe, which describe the coding of colours


class Chunk(NamedTuple):
    """A chunk of a PNG file: its kind, and where its length field starts and its checksum ends."""

    kind: bytes
    start: int
    end: int


class PngContent(NamedTuple):
    """A PNG without metadata.

    Attributes:
        data: the file with its pixels and transparency.
        bits: of a sample, 1 to 16.
        packed: bytes of compressed pixels.
        whole: whether it has an end chunk.
        profile: ICC profile; empty if there is none or it is broken.
        dpi: horizontal and vertical; None if not stated in metres.
        exif: EXIF metadata, empty if there is none.
        xmp: XMP metadata, empty if there is none.
    """

    data: bytes
    bits: int
    packed: int
    whole: bool
    profile: bytes
    dpi: tuple[float, float] | None
    exif: bytes
    xmp: bytes


def read_png(data: bytes) -> PngContent:
    """Separates the pixels of a PNG file from its metadata.

    Raises:
        ValueError: a chunk of pixels is longer than the file, or the header is missing.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or chunks[0].end - chunks[0].start != 25:
        raise ValueError("the PNG header is missing")
    parts = [PNG_MAGIC, data[8:33]]
    profile, dpi, exif, xmp = b"", None, b"", b""
    for chunk in chunks[1:]:
        content = data[chunk.start : chunk.end]
        if chunk.kind[0] < ord("a") or chunk.kind == b"tRNS":
            parts.append(content)
        elif not _is_whole(content):
            continue
        elif chunk.kind == b"iCCP":
            profile = _inflated(content[8:-4].partition(b"\0")[2][1:])
        elif chunk.kind == b"pHYs" and len(content) == 21 and content[16] == 1:
            x, y = struct.unpack(">II", content[8:16])
            dpi = (x * 0.0254, y * 0.0254)
        elif chunk.kind == b"eXIf":
            exif = content[8:-4]
        elif chunk.kind == b"iTXt" and content[8:].startswith(_XMP):
            packed, rest = content[8 + len(_XMP)], content[10 + len(_XMP) : -4]
            text = rest.split(b"\0", 2)[-1]  # after the language and the translated keyword
            xmp = _inflated(text) if packed else text
    size = sum(chunk.end - chunk.start - 12 for chunk in chunks if chunk.kind == b"IDAT")
    whole = chunks[-1].kind == b"IEND"
    return PngContent(b"".join(parts), data[24], size, whole, profile, dpi, exif, xmp)


def without_segments(data: bytes) -> bytes:
    """A JPEG file without comments and application segments, other than those that describe the coding of colours."""
    parts, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        kind = data[place + 1]
        end = place + 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
        if kind in _KEPT_SEGMENTS or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            parts.append(data[place:end])
        place = end
    return b"".join([*parts, data[place:]])


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG up to its end chunk or to metadata that is cut off."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            if kind[0] >= ord("a"):
                return
            raise ValueError(f"truncated: a chunk claims {length} bytes, {len(data) - place - 12} are there")
        yield Chunk(kind, place, end)
        if kind == b"IEND":
            return
        place = end


def _is_whole(content: bytes) -> bool:
    return zlib.crc32(content[4:-4]) == struct.unpack(">I", content[-4:])[0]


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _LARGEST)
    except zlib.error:
        return b""
