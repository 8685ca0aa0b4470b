"""Values of one mask file as they are stored, before anything decides which of them are foreground."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.image_files import OpenImage, Pixels
from data.image_io import check_depth, decode_plain, flattened

Kind = Literal["grey", "16-bit grey", "palette", "colour", "alpha"]
Content = Literal["grey", "16-bit grey", "colour", "alpha"]

_LOSSY = frozenset({"JPEG", "WEBP", "AVIF", "JPEG2000", "HEIF"})
_NOISE = 64  # of a lossy format: darker pixels are black
_TINT = 32  # difference of the channels from which a pixel counts as coloured
_TINTED_SHARE = 1e-3
_BLACK, _WHITE, _SOME = 5, 250, 0.01


class StoredMask(NamedTuple):
    """The stored values of a mask.

    Attributes:
        kind: of the file, known from its header.
        values: (H, W) uint8 grey values or palette indices, (H, W) uint16, (H, W, 3) uint8 RGB, (H, W, 4) uint8 RGBA.
        palette: (256, 3) uint8 of a palette; None for other kinds.
        lossy: whether the format changes values a little.
    """

    kind: Kind
    values: NDArray[np.uint8] | NDArray[np.uint16]
    palette: Pixels | None
    lossy: bool

    @property
    def colours(self) -> Pixels:
        """(H, W, 3) RGB of a mask of the kind palette, colour or alpha; an alpha is left out."""
        return self.palette[self.values] if self.palette is not None else self.values[..., :3].astype(np.uint8)

    def not_black(self) -> NDArray[np.bool_]:
        """(H, W): where a mask of any kind is neither 0 nor black."""
        if self.palette is not None:
            return np.asarray(self.palette.any(axis=1))[self.values]
        noise = _NOISE if self.lossy else 0
        return (self.values if self.values.ndim == 2 else self.colours.max(axis=2)) > noise


@dataclass(frozen=True)
class MaskContent:
    """What a mask holds.

    Attributes:
        kind: of its file.
        content: what carries the information.
        shares: share of the pixels of each value: greys, 0 and 1 for an alpha, 0xRRGGBB for colours.
        lossy: see `StoredMask`.
    """

    kind: Kind
    content: Content
    shares: dict[int, float]
    lossy: bool


def kind_of(opened: OpenImage) -> Kind:
    """The kind of a mask file, from its header.

    Raises:
        ImageReadError: it has 32-bit values.
    """
    image = opened.image
    if opened.samples is not None and opened.samples.shape[2] == 1:
        return "grey" if opened.samples.dtype == np.uint8 else "16-bit grey"
    if check_depth(image):
        return "16-bit grey"
    if image.has_transparency_data:
        return "alpha"
    return {"1": "grey", "L": "grey", "P": "palette"}.get(image.mode, "colour")  # pyright: ignore[reportReturnType]


def stored_mask(opened: OpenImage) -> StoredMask:
    """Decodes a mask without conversion; the values are turned upright."""
    kind, image = kind_of(opened), opened.image
    lossy, palette = image.format in _LOSSY, None
    if kind == "16-bit grey":
        values = np.asarray(image) if opened.samples is None else opened.samples[..., 0]
        values = values.astype(np.uint16)
    elif kind == "palette":
        values = np.asarray(image)
        palette = np.zeros((256, 3), np.uint8)
        table = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
        palette[: len(table)] = table
    elif kind == "alpha":
        values = np.asarray(image.convert("RGBA"))
    else:
        grey = kind == "grey"
        plain = decode_plain(opened, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB)
        values = np.asarray(image.convert("L" if grey else "RGB")) if plain is None else plain
    return StoredMask(kind, opened.upright(values), palette, lossy)  # pyright: ignore[reportArgumentType]


def examine(mask: StoredMask) -> MaskContent:
    """What a mask holds: greys, colours or an alpha."""
    if mask.kind in ("grey", "16-bit grey"):
        return MaskContent(mask.kind, mask.kind, _shares(mask.values), mask.lossy)
    colours = mask.colours
    if mask.kind == "alpha" and _alpha_matters(mask.values, colours):
        return MaskContent(mask.kind, "alpha", _shares((mask.values[..., 3] >= 128).astype(np.uint8)), mask.lossy)
    tinted = np.ptp(colours, axis=2) > _TINT
    if np.count_nonzero(tinted) > _TINTED_SHARE * tinted.size:
        packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        return MaskContent(mask.kind, "colour", _shares(packed), mask.lossy)
    greys = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)
    return MaskContent(mask.kind, "grey", _shares(greys.astype(np.uint8, copy=False)), mask.lossy)


def greys(opened: OpenImage) -> Pixels:
    """A mask as upright grey values, foreground from 128 on: the meaning of the standard benchmarks.

    A palette of colours gives 0 for black and 255 for other colours. An alpha lies over black, unless it is the same
    throughout. 16-bit values are divided by 257.

    Shapes:
        returns: (H, W) uint8.
    """
    kind, image = kind_of(opened), opened.image
    if kind in ("palette", "alpha") and image.mode in ("P", "PA"):
        return opened.upright(_palette_greys(image))
    if kind == "16-bit grey":
        return ((stored_mask(opened).values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    pixels = decode_plain(opened, cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        if kind == "alpha" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            image = image.convert("RGB")
        pixels = np.asarray(flattened(image, "black", "L"))
    return opened.upright(pixels)


def _palette_greys(image: Image.Image) -> Pixels:
    colours = np.asarray(flattened(image, "black", "RGB"))
    if np.ptp(colours, axis=2).any():
        return np.where(colours.any(axis=2), np.uint8(255), np.uint8(0))
    return np.ascontiguousarray(colours[..., 0])


def _alpha_matters(values: NDArray[np.uint8] | NDArray[np.uint16], colours: Pixels) -> bool:
    """Whether the alpha is the mask: it varies, and what is opaque is not itself a mask of black and white."""
    alpha = values[..., 3]
    if alpha.min() == alpha.max():
        return False
    opaque = colours[alpha >= 128]
    if not opaque.size:
        return True
    black, white = (opaque.max(axis=1) <= _BLACK).mean(), (opaque.min(axis=1) >= _WHITE).mean()
    return bool(black < _SOME or white < _SOME or black + white < 1 - _SOME)


def _shares(values: NDArray[np.generic]) -> dict[int, float]:
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        found = np.flatnonzero(counts)
        return {int(value): float(counts[value]) / values.size for value in found}
    found, counts = np.unique(values, return_counts=True)
    return {int(value): count / values.size for value, count in zip(found, counts, strict=True)}
