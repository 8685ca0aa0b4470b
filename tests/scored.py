"""A small benchmark with the maps of two methods, for the tests of scoring."""

from pathlib import Path

import cv2
import numpy as np

from data.image_io import write_png
from data.layouts import find_pairs
from data.masks import read_mask
from data.synthetic import write_scenes
from evaluation.map_files import ScorePair, pair_maps


def write_bench(root: Path, count: int = 8, size: int = 64) -> Path:
    """`root/data` with generated scenes; `root/good` and `root/poor`, maps of them."""
    write_scenes(root / "data", count, size, seed=3)
    for method, blur, noise in (("good", 2, 20), ("poor", 9, 90)):
        rng = np.random.default_rng(blur)
        for pair in find_pairs(root / "data"):
            soft = cv2.GaussianBlur(read_mask(pair.mask).astype(np.float64), (0, 0), blur)
            noisy = soft + noise * rng.standard_normal(soft.shape)
            write_png(root / method / f"{pair.name}.png", np.clip(noisy, 0, 255).astype(np.uint8))
    return root


def bench_pairs(root: Path, method: str = "good") -> list[ScorePair]:
    """The maps of a method with their masks."""
    return pair_maps(find_pairs(root / "data"), root / method)
