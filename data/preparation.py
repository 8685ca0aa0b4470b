"""An image as the network takes it at test time, in NumPy: what programs without PyTorch share with the others."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels

MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
"""ImageNet mean of R, G, B, for values in [0, 1]."""
STD: tuple[float, float, float] = (0.229, 0.224, 0.225)
"""ImageNet standard deviation of R, G, B, for values in [0, 1]."""

_HIGH = 4  # times the height of the result


def prepare_array(image: Pixels, size: int | tuple[int, int]) -> NDArray[np.float32]:
    """An image as the published networks take it at test time.

    Source: the authors' test code: float32, OpenCV's INTER_LINEAR (no averaging when it shrinks), / 255,
    ImageNet mean and deviation.

    Args:
        image: the image.
        size: height and width of the result, or the side of a square.

    Shapes:
        image: (H, W, 3) uint8 RGB.
        returns: (h, w, 3) float32.
    """
    height, width = (size, size) if isinstance(size, int) else size
    resized = _resized(image, height, width)
    # (resized / 255 - MEAN) / STD, a row at a time: NumPy is slow where the last axis has three elements.
    rows = resized.reshape(height, width * 3)
    rows /= 255
    rows -= np.tile(np.array(MEAN, np.float32), width)
    rows /= np.tile(np.array(STD, np.float32), width)
    return resized


def _resized(image: Pixels, height: int, width: int) -> NDArray[np.float32]:
    """cv2.resize of the image in float32; of a high image only the rows that it reads are converted.

    Equal to the last bit but one, tested in `tests/data/test_preparation.py`. 100 megapixels would need 1.2 GB.
    """
    if len(image) < _HIGH * height:
        return _as_float(cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))
    place = (np.arange(height) + 0.5) * (len(image) / height) - 0.5
    above = np.floor(place).astype(np.intp)
    upper, lower = (
        _as_float(cv2.resize(image[rows].astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))
        for rows in (above, above + 1)
    )
    weight = (place - above).astype(np.float32)[:, None, None]
    return np.asarray(upper * (1 - weight) + lower * weight, np.float32)


def _as_float(array: cv2.typing.MatLike) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
