"""TIFF layouts that the decoder of Pillow refuses or misreads: planar, signed, inverted, grey with alpha, many samples.

Each is read as grey pixels under a directory of our own, which any decoder understands, and put together here. Source
of the tags: TIFF 6.0, sections 4 to 8.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 317, 322, 324, 325, 338, 339
_SIZES = {1: 1, 3: 2, 4: 4}  # of the types of tag values that are read here, in bytes
_CODES = {1: "B", 3: "H", 4: "I"}
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946})  # none, LZW, Deflate, PackBits, old Deflate
_MOST_ENTRIES, _MOST_VALUES = 1000, 1 << 20
_KEPT = (_HEIGHT, _COMPRESSION, _ROWS, _PREDICTOR, 266, 323)  # as they are: fill order, tile height
_ALPHA = (1, 2)
_WHITE_IS_ZERO, _RGB = 0, 2
_SIGNED = 2


@dataclass(frozen=True)
class TiffLayout:
    """How the first image of a TIFF file stores its samples.

    Attributes:
        order: byte order, `<` or `>`.
        tags: values of the tags that hold integers.
    """

    order: str
    tags: dict[int, tuple[int, ...]]

    def value(self, tag: int, default: int = 1) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return self.value(_SAMPLES)

    @property
    def text(self) -> str:
        """In words, for an error."""
        kinds = {1: "unsigned", 2: "signed", 3: "floating-point"}
        kind = kinds.get(self.value(_FORMAT), "unknown")
        return f"{self.samples} samples of {self.value(_BITS)} bits, {kind}"

    @property
    def is_misread(self) -> bool:
        """Whether Pillow gives wrong values without an error: 16 bits that are planar, inverted or signed."""
        odd = (
            self.value(_PHOTOMETRIC) == _WHITE_IS_ZERO
            or self.value(_FORMAT) == _SIGNED
            or (self.value(_PLANAR) == 2 and self.samples > 1)
        )
        return self.value(_BITS) == 16 and odd

    @property
    def is_supported(self) -> bool:
        """Whether `read_samples` can read it."""
        chunky = self.samples == 1 or self.value(_PLANAR) == 1
        return (
            set(self.tags.get(_BITS, ())) in ({8}, {16})
            and self.value(_COMPRESSION) in _LOSSLESS
            and self.value(_PHOTOMETRIC) <= _RGB
            and self.value(_FORMAT) <= _SIGNED
            and not (chunky and self.samples > 1 and self.value(_PREDICTOR) != 1)
        )


def read_layout(data: bytes) -> TiffLayout | None:
    """The layout of the first image; None if it is no TIFF file with integer tags."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return None
    try:
        start = struct.unpack(f"{order}I", data[4:8])[0]
        count = struct.unpack(f"{order}H", data[start : start + 2])[0]
        entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(min(count, _MOST_ENTRIES))]
        tags = dict(_entry(data, entry, order) for entry in entries)
    except struct.error:
        return None
    return TiffLayout(order, {tag: values for tag, values in tags.items() if values})


def read_samples(data: bytes, layout: TiffLayout) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """All samples of the first image, 0 black.

    Shapes:
        returns: (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4): grey, grey and alpha, RGB, RGB and alpha. Samples
            beyond these are left out.

    Raises:
        ValueError: values below 0, or a file that is damaged.
    """
    count = layout.samples
    starts, sizes = (_TILES, _TILE_BYTES) if _TILES in layout.tags else (_STRIPS, _STRIP_BYTES)
    if layout.value(_PLANAR) == 2 and count > 1:
        each = len(layout.tags[starts]) // count
        planes = [
            _decoded(data, layout, 1, {tag: layout.tags[tag][i * each : (i + 1) * each] for tag in (starts, sizes)})
            for i in range(count)
        ]
        values: NDArray[Any] = np.stack(planes, -1)
    else:
        rows = _decoded(data, layout, count, {tag: layout.tags[tag] for tag in (starts, sizes)})
        values = rows.reshape(rows.shape[0], -1, count)
    if layout.value(_FORMAT) == _SIGNED:
        values = _unsigned(values)
    if layout.value(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = np.iinfo(values.dtype).max - values
    alpha = layout.value(_EXTRA, 0) in _ALPHA
    colours = 3 if count >= 3 else 1
    return values[..., : colours + int(alpha and count > colours)]


def _decoded(
    data: bytes, layout: TiffLayout, samples: int, places: dict[int, tuple[int, ...]]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The pixels under these strips or tiles, (H, W * samples), read as one grey image."""
    bits = layout.value(_BITS)
    tags = {tag: layout.tags[tag] for tag in _KEPT if tag in layout.tags}
    tags |= {_WIDTH: (layout.value(_WIDTH) * samples,), _BITS: (bits,), _PHOTOMETRIC: (1,), _SAMPLES: (1,)} | places
    if _TILE_WIDTH in layout.tags:
        tags[_TILE_WIDTH] = (layout.value(_TILE_WIDTH) * samples,)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(_with_directory(data, layout.order, tags))) as image:
        pixels = np.asarray(image)
        return pixels.astype(np.uint16, copy=False) if bits == 16 else pixels.astype(np.uint8, copy=False)


def _with_directory(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The file with another directory of tags (all of type LONG) behind its end."""
    start = len(data) + len(data) % 2
    tail_start = start + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}I", *values)
        place = raw if len(values) == 1 else struct.pack(f"{order}I", tail_start + len(tail))
        tail += raw if len(values) > 1 else b""
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
    head = data[:4] + struct.pack(f"{order}I", start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + data[8:] + bytes(len(data) % 2) + directory + tail


def _unsigned(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Signed samples from 0 to their largest value, stretched to the whole range."""
    signed = values.view(np.int8 if values.dtype == np.uint8 else np.int16)
    if signed.min() < 0:
        raise ValueError(f"signed values from {signed.min()}, whose range is unknown")
    return values * 2 + (values > np.iinfo(signed.dtype).max // 2)


def _entry(data: bytes, entry: bytes, order: str) -> tuple[int, tuple[int, ...]]:
    """A tag and its values; none where they are of another type or lie outside the file."""
    tag, kind, count = struct.unpack(f"{order}HHI", entry[:8])
    size = _SIZES.get(kind, 0) * count
    if not size or count > _MOST_VALUES:
        return tag, ()
    start = struct.unpack(f"{order}I", entry[8:])[0]
    raw = entry[8 : 8 + size] if size <= 4 else data[start : start + size]
    return (tag, struct.unpack(f"{order}{count}{_CODES[kind]}", raw)) if len(raw) == size else (tag, ())
