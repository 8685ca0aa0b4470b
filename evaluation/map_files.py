"""Saliency maps on disk: their one reader, and their strict pairing with a benchmark's masks.

A map is what the field exchanges: a grey 8-bit image, named as its mask. What other tools write is either brought to
that form (16 bits, floats in 0..1, grey saved as RGB) or refused in one line. Nothing is ever dropped: a missing, an
extra or a doubled map is an error.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.masks import MaskCoding
from evaluation.map_names import LISTED, listing, match, normal, shown
from utils.errors import UserError

MAP_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy"})
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")


class MapError(UserError):
    """A folder of maps, or one map, that cannot be scored as it is."""


class ScorePair(NamedTuple):
    """One map and the mask that it is measured against, with the coding of the dataset's masks."""

    name: str
    map_path: Path
    mask_path: Path
    coding: MaskCoding | None = None


class Masked(Protocol):
    """What has a name and a mask: a `Pair` or a `Target`."""

    @property
    def name(self) -> str:
        """POSIX path without suffix."""
        ...

    @property
    def mask(self) -> Path:
        """File of the mask."""
        ...

    @property
    def coding(self) -> MaskCoding | None:
        """Coding of the dataset's masks; None: it is found from the mask only."""
        ...


def read_map(path: Path) -> NDArray[np.uint8]:
    """Reads one saliency map.

    16-bit values v become round(v / 257); floats in 0..1 (`.npy`, float TIFF) round(255 v), as the field's
    8-bit PNG would hold them. RGB and palette maps must be grey, an alpha channel opaque.

    Shapes:
        returns: (H, W), 0..255.

    Raises:
        MapError: unreadable or truncated; in colours, transparent, floats outside 0..1, more than one
            channel.
    """
    try:
        values = _read_npy(path) if path.suffix.lower() == ".npy" else _read_raster(path)
    except MapError:
        raise
    except Exception as error:  # decoders raise errors of many kinds on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MapError(f"{path}: cannot be read as a map ({reason}). Write it again.") from error
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2 or values.size == 0:
        raise MapError(f"{path}: a map has the shape (height, width), not {values.shape}. Save one channel.")
    return _as_8bit(values, path)


def list_maps(folder: Path) -> dict[str, Path]:
    """All maps below `folder` by name: the path inside the folder, with `/` and without suffix.

    Hidden files and files of other kinds are passed over.

    Raises:
        MapError: no such folder, no map in it, or two files of one name.
    """
    if not folder.is_dir():
        raise MapError(f"{folder}: no such folder of maps. Give METHOD=DIR, a folder that holds maps.")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in MAP_SUFFIXES:
            found[normal(path.relative_to(folder).with_suffix("").as_posix())].append(path)
    if not found:
        others = ", ".join(sorted({path.suffix or path.name for path in files})[:LISTED])
        hint = f"it holds only {others} files" if files else "it is empty"
        raise MapError(f"{folder}: no maps found; {hint}. Maps end in {', '.join(sorted(MAP_SUFFIXES))}.")
    doubled = [" and ".join(path.name for path in paths) for paths in found.values() if len(paths) > 1]
    if doubled:
        raise MapError(f"{folder}: {listing('doubled map', doubled)}. Keep one file of each name.")
    return {name: paths[0] for name, paths in found.items()}


def pair_maps(targets: Sequence[Masked], folder: Path, pattern: str | None = None) -> list[ScorePair]:
    """Every mask of a benchmark with its map, in the benchmark's order.

    Args:
        pattern: how maps are named, such as `{name}_HS`; None: as the masks, or with one common prefix or suffix.

    Raises:
        MapError: as `list_maps`, and the list of all missing and extra maps.
    """
    maps = list_maps(folder)
    try:
        found = match([target.name for target in targets], maps, pattern)
    except UserError as error:
        raise MapError(f"{folder}: {error}") from None
    return [ScorePair(shown(target.name), found[target.name], target.mask, target.coding) for target in targets]


def check_sizes(pairs: Sequence[ScorePair]) -> None:
    """Compares the sizes of maps and masks by their headers, without decoding any.

    Raises:
        MapError: listing the maps that have another size than their mask.
    """
    sizes = [(pair, header_size(pair.map_path), header_size(pair.mask_path)) for pair in pairs]
    wrong = [
        f"{pair.name} ({size[0]} x {size[1]}, its mask {mask[0]} x {mask[1]})"
        for pair, size, mask in sizes
        if size is not None and mask is not None and size != mask
    ]
    if wrong:
        raise MapError(
            f"{pairs[0].map_path.parent}: {len(wrong)} of {len(pairs)} maps have another size than their mask: "
            f"{', '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Write maps at the size "
            "of the mask, or use --resize-maps."
        )


def header_size(path: Path) -> tuple[int, int] | None:
    """Width and height by the header, upright by EXIF; None where it cannot be read."""
    try:
        if path.suffix.lower() == ".npy":
            shape = _npy_header(path).shape
            return (shape[1], shape[0]) if len(shape) in (2, 3) else None
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)
    except Exception:  # the full reader names what is wrong
        return None


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    size: int


def _npy_header(path: Path) -> _NpyHeader:
    """Shape, type and length in bytes of the header of a `.npy` file."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return _NpyHeader(shape, dtype, file.tell())


def _read_npy(path: Path) -> NDArray:
    """The array of a `.npy` file; its header is compared with the bytes that are there before anything is read."""
    header = _npy_header(path)
    if header.dtype.kind not in "biuf" or header.dtype.itemsize > 8:
        raise MapError(f"{path}: {header.dtype} values are no map. Save 8 bits, 0 to 255, or floats in 0 to 1.")
    claimed, held = header.dtype.itemsize * math.prod(header.shape), path.stat().st_size - header.size
    if claimed != held:
        raise MapError(f"{path}: its header claims {claimed} bytes of values, the file holds {held}. Write it again.")
    return np.load(path, allow_pickle=False)


def _read_raster(path: Path) -> NDArray:
    """The pixels as the file holds them, one channel: (H, W)."""
    with Image.open(path, formats=_FORMATS) as image:
        image.load()  # a truncated file raises here
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode in {"L", "F", "I"} or image.mode.startswith("I;16"):
            return np.asarray(image)
        pixels = np.asarray(image.convert("RGBA"))
    if pixels[..., 3].min() < 255:
        raise MapError(f"{path}: a map with transparency ({image.mode}). Save only its grey values.")
    if (pixels[..., :3] != pixels[..., :1]).any():
        raise MapError(f"{path}: a map in colours ({image.mode}), not in grey. Save one channel, 0 to 255.")
    return pixels[..., 0]


def _as_8bit(values: NDArray, path: Path) -> NDArray[np.uint8]:
    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # some TIFF files hold the high byte first
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(initial=0), values.max(initial=0)
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise MapError(f"{path}: holds NaN or infinite values. Compute the map again.")
        if low < 0 or high > 1:
            raise MapError(
                f"{path}: floats from {low:g} to {high:g}, not in 0 to 1. Apply the sigmoid, or divide by 255, first."
            )
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype == np.uint16:
        return np.rint(values / 257.0).astype(np.uint8)
    raise MapError(f"{path}: {values.dtype} values from {low} to {high} are no map. Save 8 bits, 0 to 255.")
