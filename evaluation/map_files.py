"""Saliency maps on disk: their one reader, and their strict pairing with a benchmark's masks.

A map is what the field exchanges: a grey 8-bit picture, named as its photograph. What other tools write is either
brought to that form (16 bits, floats in 0..1, grey saved as RGB) or refused in one line. Nothing is ever dropped: a
missing, an extra or a doubled map is an error.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.layouts import Pair
from data.masks import MaskCoding
from utils.errors import UserError

MAP_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy"})
LISTED = 10  # problems told one by one before the rest is only counted


class MapError(UserError):
    """A folder of maps, or one map, that cannot be scored as it is."""


class ScorePair(NamedTuple):
    """One map and the mask that it is measured against, with the coding of the dataset's masks."""

    name: str
    map_path: Path
    mask_path: Path
    coding: MaskCoding | None = None


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
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _read_raster(path)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
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
            found[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    if not found:
        others = ", ".join(sorted({path.suffix or path.name for path in files})[:LISTED])
        hint = f"it holds only {others} files" if files else "it is empty"
        raise MapError(f"{folder}: no maps found; {hint}. Maps end in {', '.join(sorted(MAP_SUFFIXES))}.")
    doubled = [" and ".join(path.name for path in paths) for paths in found.values() if len(paths) > 1]
    if doubled:
        raise MapError(f"{folder}: {listing('doubled map', doubled)}. Keep one file of each name.")
    return {name: paths[0] for name, paths in found.items()}


def pair_maps(pairs: Sequence[Pair], folder: Path) -> list[ScorePair]:
    """Every mask of a benchmark with its map, in the benchmark's order.

    Raises:
        MapError: as `list_maps`, and the list of all missing and extra maps.
    """
    maps = list_maps(folder)
    names = {pair.name for pair in pairs}
    missing = [pair.name for pair in pairs if pair.name not in maps]
    extra = [name for name in maps if name not in names]
    told = [listing(kind, which) for kind, which in (("missing map", missing), ("extra map", extra)) if which]
    if told:
        raise MapError(
            f"{folder}: {len(maps)} maps for {len(pairs)} masks; {'; '.join(told)}. "
            "Give the folder that holds exactly the maps of this benchmark."
        )
    return [ScorePair(pair.name, maps[pair.name], pair.mask, pair.coding) for pair in pairs]


def listing(kind: str, which: Iterable[str]) -> str:
    """`3 missing maps: a, b, c`: counted, the first ones named."""
    which = list(which)
    rest = f" and {len(which) - LISTED} more" if len(which) > LISTED else ""
    return f"{len(which)} {kind}{'s' if len(which) != 1 else ''}: {', '.join(which[:LISTED])}{rest}"


def _read_raster(path: Path) -> NDArray:
    """The pixels as the file holds them, one channel: (H, W)."""
    with Image.open(path) as picture:
        picture.load()  # a truncated file raises here
        if picture.mode == "1":
            return np.asarray(picture.convert("L"))
        if picture.mode in {"L", "F", "I"} or picture.mode.startswith("I;16"):
            return np.asarray(picture)
        pixels = np.asarray(picture.convert("RGBA"))
    if pixels[..., 3].min() < 255:
        raise MapError(f"{path}: a map with transparency ({picture.mode}). Save its grey values alone.")
    if (pixels[..., :3] != pixels[..., :1]).any():
        raise MapError(f"{path}: a map in colours ({picture.mode}), not in grey. Save one channel, 0 to 255.")
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
