"""Changes of a saliency map after the network: gain of the logits, removal of specks, filling of holes.

All are off by default: a benchmark scores the network's own maps. Imports no PyTorch.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels

HALF = 128  # of 255: a pixel of the object from here on
FAINT = 13  # of 255: a pixel of a part, with its soft rim, from here on


@dataclass(frozen=True)
class Refinement:
    """What is changed; the defaults change nothing.

    Attributes:
        gain: factor of the logits.
        specks: parts of the map with an area below this share of the largest part are set to 0.
        holes: holes of the object with an area below this share of the largest part are set to 255.
    """

    gain: float = 1.0
    specks: float = 0.0
    holes: float = 0.0

    def logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits times the gain, of any shape."""
        return logits if self.gain == 1 else logits * np.float32(self.gain)

    def saliency(self, saliency: Pixels) -> Pixels:
        """The map without specks and holes; (H, W) to (H, W)."""
        if self.specks:
            saliency = without_specks(saliency, self.specks)
        return without_holes(saliency, self.holes) if self.holes else saliency


def without_specks(saliency: Pixels, share: float) -> Pixels:
    """The map without parts that are small beside the largest; a part is connected through
    values of 5 % or more, and its rim below that stays.

    Shapes:
        saliency: (H, W); returns: (H, W).
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((saliency >= FAINT).view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    if count < 3:  # the first is the background
        return saliency
    small = areas < share * areas[1:].max()
    small[0] = False
    return np.where(small[labels], np.uint8(0), saliency)


def without_holes(saliency: Pixels, share: float) -> Pixels:
    """The map with holes filled that are small beside the largest part; background at the border is no hole.

    Shapes:
        saliency: (H, W); returns: (H, W).
    """
    solid = (saliency >= HALF).view(np.uint8)
    parts = cv2.connectedComponentsWithStats(solid, connectivity=8)[2]
    if len(parts) < 2:
        return saliency
    labels, stats = cv2.connectedComponentsWithStats(1 - solid, connectivity=4)[1:3]
    fill = stats[:, cv2.CC_STAT_AREA] < share * parts[1:, cv2.CC_STAT_AREA].max()
    fill[0] = False  # the object itself
    fill[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    return np.where(fill[labels], np.uint8(255), saliency)
