"""Transforms: an image and its mask to the tensors that the network takes.

`prepare_image` is the published preparation for testing: float32, bilinear to a square, ImageNet mean and standard
deviation. `TrainTransform` draws a crop, a flip, a rotation and a change of colour. It applies all of the geometry in
one affine sampling, so that the image is interpolated once.

Source: the crop of up to an eighth of each side and the flip are F3Net's, whose recipe is common in the field.
Rotation, colour and the way of shrinking are our choice.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.image_io import Pixels
from data.preparation import MEAN, STD, prepare_array
from data.settings import AugmentConfig

# The mean colour in 8 bits: it fills the corners of a rotated image and becomes about 0 after normalisation.
_FILL = tuple(round(255 * value) for value in MEAN)
_MEAN = np.array(MEAN, np.float32)
_STD = np.array(STD, np.float32)
# What each of the 256 values becomes in each channel, (1, 256, 3): looking up is faster than computing.
_NORMALISED = ((np.arange(256, dtype=np.float32)[:, None] / 255 - _MEAN) / _STD)[None]
_GREY = np.array([0.299, 0.587, 0.114])


class PairTransform(Protocol):
    """A transform of an image and its mask to two tensors of one size."""

    def __call__(self, image: Pixels, mask: Pixels, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See `TrainTransform.__call__`."""
        ...


class TrainTransform:
    """Draws an augmented square of an image and its mask."""

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def __call__(self, image: Pixels, mask: Pixels, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """All random numbers come from `rng`, always in the same order.

        Shapes:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) uint8.
            returns: (3, size, size) float32, normalised; (1, size, size) float32, 0 or 1.
        """
        config = self.config
        view = _draw_view(image, config, rng)
        image = _sample(image, view, size, _FILL)
        mask = _sample(mask, view, size, (0,))
        if config.colour > 0:
            image = _change_colour(image, *rng.uniform(1 - config.colour, 1 + config.colour, 3))
        return normalise(image), binarise(mask)

    def soft_map(self, soft_map: Pixels, size: int, rng: np.random.Generator) -> Tensor:
        """A soft map with the geometry that `__call__` gives a mask of its size, without a threshold.

        Args:
            soft_map: of the size of image and mask.
            size: see `__call__`.
            rng: in the state in which `__call__` gets it.

        Shapes:
            soft_map: (H, W) uint8.
            returns: (1, size, size) float32, 0 to 1.
        """
        sampled = _sample(soft_map, _draw_view(soft_map, self.config, rng), size, (0,))
        return torch.from_numpy(sampled.astype(np.float32) / 255)[None]


class EvalTransform:
    """The whole image resized to a square, as at test time, and its mask."""

    def __call__(
        self, image: Pixels, mask: Pixels, size: int, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Nothing is random; `rng` exists for the signature of `PairTransform`.

        Shapes:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) uint8.
            returns: (3, size, size) float32, normalised; (1, size, size) float32, 0 or 1.
        """
        view = _View((0, 0, image.shape[1], image.shape[0]))
        return prepare_image(image, size), binarise(_sample(mask, view, size, (0,)))


def prepare_image(image: Pixels, size: int | tuple[int, int]) -> Tensor:
    """`data.preparation.prepare_array` as a tensor.

    Shapes:
        image: (H, W, 3) uint8 RGB.
        returns: (3, h, w) float32; channels last in memory.
    """
    return _tensor(prepare_array(image, size))


def normalise(image: Pixels) -> Tensor:
    """8-bit RGB to the float32 input of the network.

    Shapes:
        image: (h, w, 3) uint8 RGB.
        returns: (3, h, w) float32; channels last in memory, which needs no copy.
    """
    return _tensor(np.asarray(cv2.LUT(image, _NORMALISED), np.float32))


def binarise(mask: Pixels) -> Tensor:
    """Grey values to 0 and 1: foreground from 128 on.

    Shapes:
        mask: (h, w) uint8.
        returns: (1, h, w) float32.
    """
    return torch.from_numpy((mask >= 128).astype(np.float32))[None]


def _tensor(image: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)  # (h, w, 3) -> (3, h, w)


@dataclass(frozen=True)
class _View:
    """Which part of an image fills the square, and how.

    Args:
        box: left, top, width, height of that part, pixels.
        degrees: rotation about the middle of the box, counter-clockwise.
        flip: whether to mirror left to right.
    """

    box: tuple[int, int, int, int]
    degrees: float = 0.0
    flip: bool = False

    def matrix(self, size: int) -> NDArray[np.float64]:
        """(3, 3) from image to square, in coordinates along pixel edges (the first pixel is [0, 1))."""
        left, top, width, height = self.box
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        to_middle = np.array([[1, 0, -left - width / 2], [0, 1, -top - height / 2], [0, 0, 1]])
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        stretch = np.diag([(-1 if self.flip else 1) * size / width, size / height, 1.0])
        to_corner = np.array([[1, 0, size / 2], [0, 1, size / 2], [0, 0, 1]])
        return to_corner @ stretch @ turn @ to_middle


def _draw_view(image: Pixels, config: AugmentConfig, rng: np.random.Generator) -> _View:
    height, width = image.shape[:2]
    flip, angle, cut_x, cut_y, offset_x, offset_y = rng.random(6)
    # As F3Net: how much is cut away is drawn first, then where; whole pixels.
    cut_x, cut_y = int(cut_x * config.crop * width), int(cut_y * config.crop * height)
    left, top = round(offset_x * cut_x), round(offset_y * cut_y)
    box = (left, top, width - cut_x, height - cut_y)
    return _View(box, (2 * angle - 1) * config.rotate, flip < config.flip)


def _sample(pixels: Pixels, view: _View, size: int, fill: tuple[int, ...]) -> Pixels:
    """Bilinear sampling of an image to a square.

    Down to half of its size an image is only interpolated, as at test time. An image that shrinks further
    is first averaged over blocks (INTER_AREA) to within a factor of two; otherwise its texture would alias.

    Shapes:
        pixels: (H, W) or (H, W, 3) uint8.
        returns: (size, size) or (size, size, 3) uint8.
    """
    height, width = pixels.shape[:2]
    matrix = view.matrix(size)
    blocks_x, blocks_y = max(1, view.box[2] // size), max(1, view.box[3] // size)
    if max(blocks_x, blocks_y) > 1:
        small = (max(1, width // blocks_x), max(1, height // blocks_y))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        matrix = matrix @ np.diag([width / small[0], height / small[1], 1.0])
    # OpenCV counts from the middle of the first pixel.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = np.linalg.inv(half) @ matrix @ half
    # Without a rotation only the half pixel at the border lies outside: it repeats the border.
    border = cv2.BORDER_CONSTANT if view.degrees else cv2.BORDER_REPLICATE
    sampled = cv2.warpAffine(
        pixels, centred[:2], (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
    )
    return sampled.astype(np.uint8, copy=False)


def _change_colour(image: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    """Saturation about a pixel's grey, contrast about the image's mean grey, brightness: one matrix."""
    grey = float(np.dot(cv2.mean(image)[:3], _GREY))
    mix = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    offset = np.full((3, 1), (1 - contrast) * grey)
    matrix = brightness * np.hstack([contrast * mix, offset])  # (3, 4)
    return cv2.transform(image, matrix).astype(np.uint8, copy=False)
