"""From logits to a saliency map at the image's own size, in NumPy; the last step of every engine."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels

Saliency = NDArray[np.float32]
"""A saliency map, (H, W) in [0, 1]."""


def restore(logits: NDArray[np.float32], size: tuple[int, int]) -> Saliency:
    """Logits to the image's own size, then the sigmoid.

    OpenCV's bilinear resizing is that of `F.interpolate(align_corners=False)`; with its float64 coordinates it
    comes within 1e-6 of the exact map, where PyTorch's float32 ones leave up to 4e-5.

    Args:
        logits: of one image.
        size: its height and width.

    Shapes:
        logits: (S, S); returns: (H, W), in [0, 1].
    """
    height, width = size
    saliency = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, in place; exp(-x) would overflow.
    saliency *= np.float32(0.5)
    np.tanh(saliency, out=saliency)
    saliency *= np.float32(0.5)
    saliency += np.float32(0.5)
    return saliency


def to_8bit(saliency: Saliency) -> Pixels:
    """round(255 * map), as maps are written: (H, W) float32 in [0, 1] to (H, W) uint8."""
    return cv2.convertScaleAbs(saliency, alpha=255).astype(np.uint8, copy=False)
