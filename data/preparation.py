"""An image as the network takes it at test time, in NumPy: what programs without PyTorch share with the others."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels

MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
"""ImageNet mean of R, G, B, for values in [0, 1]."""
STD: tuple[float, float, float] = (0.229, 0.224, 0.225)
"""ImageNet standard deviation of R, G, B, for values in [0, 1]."""


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
    resized = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    # (resized / 255 - MEAN) / STD, a row at a time: NumPy is slow where the last axis has three elements.
    rows = resized.reshape(height, width * 3)
    rows /= 255
    rows -= np.tile(np.array(MEAN, np.float32), width)
    rows /= np.tile(np.array(STD, np.float32), width)
    return np.asarray(resized, np.float32)
