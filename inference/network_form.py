"""The map of a network that takes prepared tensors: what is around the network in test.py, without PyTorch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels
from data.preparation import prepare_array
from inference.saliency import Saliency, restore


def network_map(network: Callable[[NDArray[np.float32]], NDArray[np.float32]], size: int, image: Pixels) -> Saliency:
    """The map of one image.

    Args:
        network: (1, 3, S, S) float32 to (1, 1, S, S) logits.
        size: side S.
        image: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) float32 in [0, 1].
    """
    prepared = np.ascontiguousarray(prepare_array(image, size).transpose(2, 0, 1))  # (3, S, S)
    logits = np.asarray(network(prepared[None]), np.float32)
    return restore(logits[0, 0], (image.shape[0], image.shape[1]))
