"""Soft maps for tests: the masks of a dataset, blurred and dimmed, as of a teacher that is nearly right."""

import cv2
import numpy as np

from data.image_io import read_grey, write_png
from data.layouts import find_pairs


def write_soft_maps(root, folder, side=None):
    """One map for each mask below `root`; at `side` x `side` pixels, or at the size of the mask."""
    for pair in find_pairs(root):
        soft = cv2.GaussianBlur(read_grey(pair.mask), (0, 0), 2)
        soft = soft if side is None else cv2.resize(soft, (side, side))
        write_png(folder / f"{pair.name}.png", (0.9 * soft + 5).astype(np.uint8))
    return folder
