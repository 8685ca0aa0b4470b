"""Soft maps: the saliency maps of a teacher, grey values from 0 to 255, as a second target beside the masks.

Distillation (Hinton, Vinyals and Dean, arXiv 1503.02531) is the source of the idea; Auto-MSFNet has no teacher, so all
of this is our choice. A soft map is named as its image, as `test.py` and `benchmarks/peers.py` write maps. Teachers
often work at their own size: a map has the proportions of its image or is a square, and is resized when it is loaded.
Maps that belong to no training image, such as those of the validation split, are ignored.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data.datasets import SaliencyDataset, Sample, SampleKey
from data.errors import DataError
from data.find_files import search
from data.image_files import open_image, reading
from data.image_io import Pixels, read_grey
from data.layouts import Pair, first_names, named_files
from data.mask_values import examine, kind_of, stored_mask
from data.transforms import TrainTransform

_TOLERANCE = 1.1  # of the proportions: some teachers round sides to multiples of 32 pixels
_GREY = ("grey", "16-bit grey")
_UNREADABLE, _COLOURED, _MISSHAPEN = "unreadable", "not grey", "of other proportions than the image"


class SoftMapError(DataError):
    """Soft maps that are missing, or that cannot be those of the training images."""


class _Facts(NamedTuple):
    """What the check of one map found: a fault or none, whether it will be resized, its greatest value."""

    fault: str
    resized: bool = False
    peak: int = 0


@dataclass(frozen=True)
class SoftMaps:
    """The soft maps of the training images.

    Attributes:
        folder: where they are.
        pairs: the images, with their masks.
        files: the soft map of each pair.
    """

    folder: Path
    pairs: Sequence[Pair]
    files: Sequence[Path]

    @classmethod
    def find(cls, folder: Path, pairs: Sequence[Pair]) -> "SoftMaps":
        """The soft map of every pair, by name.

        Raises:
            SoftMapError: there is no such folder, or images without a map or with two, counted and the first named.
        """
        if not folder.is_dir():
            raise SoftMapError(f"{folder}: no such folder of soft maps. Give the folder that holds them.")
        found = named_files(search(folder).files, folder)
        names = [unicodedata.normalize("NFC", pair.name) for pair in pairs]
        missing = [name for name in names if name not in found]
        if missing:
            held = f"holds maps such as {min(found)}" if found else "holds none"
            raise SoftMapError(
                f"{folder}: {len(missing)} of {len(pairs)} training images have no soft map ({first_names(missing)}); "
                f"the folder {held}. Give the folder whose maps are named as the images."
            )
        if doubled := [name for name in names if len(found[name]) > 1]:
            raise SoftMapError(
                f"{folder}: {len(doubled)} of {len(pairs)} training images have two soft maps "
                f"({first_names(doubled)}). Keep one of each name."
            )
        return cls(folder, list(pairs), [found[name][0] for name in names])

    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the names of the images and the sizes of the maps' files, in bytes."""
        sized = zip(self.pairs, self.files, strict=True)
        text = "\n".join(f"{pair.name} {file.stat().st_size}" for pair, file in sized)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]

    def check(self) -> int:
        """Reads every map once; returns how many have another size than their image.

        Raises:
            SoftMapError: maps that cannot be used, counted and the first named, or none with a value of foreground.
            ImageReadError: a mask cannot be read.
        """
        with ThreadPoolExecutor() as pool:  # OpenCV and Pillow decode outside of the interpreter's lock
            rows = pool.map(_examine, self.files, (pair.mask for pair in self.pairs))
            facts = list(tqdm(rows, "reading soft maps", len(self.files), unit="map", disable=None, leave=False))
        faults: dict[str, list[str]] = {}
        for pair, one in zip(self.pairs, facts, strict=True):
            if one.fault:
                faults.setdefault(one.fault, []).append(pair.name)
        if faults:
            listed = "; ".join(f"{len(names)} {fault} ({first_names(names)})" for fault, names in faults.items())
            raise SoftMapError(
                f"{self.folder}: of {len(facts)} soft maps {listed}. Write them again: grey, upright, of the image's "
                f"proportions or square."
            )
        if (peak := max(one.peak for one in facts)) < 128:
            raise SoftMapError(
                f"{self.folder}: the greatest value of all {len(facts)} soft maps is {peak}, expected up to 255. "
                f"Multiply maps of 0 to 1 by 255."
            )
        return sum(one.resized for one in facts)


class DistillationDataset(SaliencyDataset):
    """The training images with mask and soft map; images and masks are to the bit those without soft maps.

    Args:
        soft_maps: of the pairs.
        transform: of image and mask; the soft map takes its geometry.
        seed: of the random numbers of the transform.
        cache: see `SaliencyDataset`; the soft maps are kept as well.

    Raises:
        DataError: a file cannot be read; only with `cache`.
    """

    def __init__(self, soft_maps: SoftMaps, transform: TrainTransform, seed: int = 0, cache: bool = False) -> None:
        super().__init__(soft_maps.pairs, transform, seed, cache)
        self._files, self._geometry = soft_maps.files, transform
        self._cached_maps: list[Pixels] | None = None
        if cache:
            shapes = [self.read(index)[1].shape for index in range(len(self))]
            with ThreadPoolExecutor() as pool:
                self._cached_maps = list(pool.map(read_soft_map, self._files, shapes))

    def __getitem__(self, key: SampleKey) -> Sample:
        """Reads and transforms one sample.

        Raises:
            DataError: a file cannot be read, or the mask has another size than the image.
        """
        image, mask = self.read(key.index)
        cached = self._cached_maps
        soft_map = read_soft_map(self._files[key.index], mask.shape) if cached is None else cached[key.index]
        tensors = self.transform(image, mask, key.size, self.generator(key))
        # A second generator of the same numbers: nothing that image and mask draw changes.
        return Sample(*tensors, key.index, self._geometry.soft_map(soft_map, key.size, self.generator(key)))


def read_soft_map(file: Path, shape: tuple[int, ...]) -> Pixels:
    """Reads a soft map and resizes it, bilinear or, where it shrinks, averaged.

    Args:
        file: of the map.
        shape: height and width of the mask, pixels.

    Shapes:
        returns: (H, W) uint8, not binarised.

    Raises:
        ImageReadError: the file cannot be read.
    """
    soft_map, (height, width) = read_grey(file), shape
    if soft_map.shape == shape:
        return soft_map
    shrinks = soft_map.shape[0] > height and soft_map.shape[1] > width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(soft_map, (width, height), interpolation=interpolation).astype(np.uint8, copy=False)


def _examine(file: Path, mask: Path) -> _Facts:
    wanted = _upright_size(mask)
    try:
        with reading(file):
            opened = open_image(file)
            # Only a header is read of a grey file; other kinds may hold grey values.
            if kind_of(opened) not in _GREY and examine(stored_mask(opened)).content not in _GREY:
                return _Facts(_COLOURED)
        soft_map = read_grey(file)
    except DataError:
        return _Facts(_UNREADABLE)
    size = soft_map.shape
    if not _fits(size, wanted):
        return _Facts(_MISSHAPEN)
    return _Facts("", size != wanted, int(soft_map.max()))


def _fits(size: tuple[int, ...], wanted: tuple[int, int]) -> bool:
    """Whether a map of this height and width can be that of an image of the other; a turned one cannot."""
    (height, width), (high, wide) = size, wanted
    if height == width or size == wanted:
        return True
    ratio = (width * high) / (height * wide)
    return size != wanted[::-1] and 1 / _TOLERANCE <= ratio <= _TOLERANCE


def _upright_size(path: Path) -> tuple[int, int]:
    """Height and width by the header, upright by EXIF."""
    with reading(path):
        opened = open_image(path)
    width, height = opened.size
    return (width, height) if opened.orientation > 4 else (height, width)
