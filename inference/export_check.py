"""How far an exported file's maps are from PyTorch's, on real images, and what that does to the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.image_io import Pixels, read_image, write_png
from data.layouts import find_pairs
from data.pairs import with_coding
from evaluation.map_files import ScorePair
from evaluation.measures import LABELS
from evaluation.scoring import score_maps
from inference.engines.exported import Run
from inference.predictor import Predictor
from inference.saliency import to_8bit


@dataclass(frozen=True)
class Differences:
    """Between two maps of every image, in [0, 1].

    Attributes:
        images: how many were compared.
        greatest: over all pixels of all images.
        mean: mean absolute difference (MAE between the maps) of the average image.
        worst: that of the worst image.
    """

    images: int
    greatest: float
    mean: float
    worst: float


def compare(predictor: Predictor, run: Run, images: Sequence[Path]) -> Differences:
    """Maps of an exported file against those of PyTorch, each image by itself and in a batch with its mirror image.

    Raises:
        ImageReadError: a image cannot be read.
    """
    greatest, means = 0.0, []
    for path in tqdm(images, desc="comparing", unit="image", disable=None):
        image = read_image(path)
        theirs = run(np.stack([image, image[:, ::-1]]))
        gap = np.abs(np.stack(predictor.batch([image, np.ascontiguousarray(image[:, ::-1])])) - theirs)
        alone = np.abs(run(image[None])[0] - theirs[0])
        greatest = max(greatest, float(gap.max()), float(alone.max()))
        means.append(float(gap[0].mean()))
    return Differences(len(means), greatest, float(np.mean(means)), float(np.max(means)))


def score_changes(predictor: Predictor, run: Run, root: Path, scratch: Path) -> dict[str, dict[str, float]]:
    """Every measure of a dataset by PyTorch's maps and by the exported file's.

    Args:
        predictor: PyTorch, float32.
        run: the exported file.
        root: images with masks, in any layout that `data.layouts` recognises.
        scratch: a folder for the maps.

    Returns:
        by measure: `torch`, `exported`, `change`.
    """
    pairs = with_coding(find_pairs(root))
    scored: dict[str, list[ScorePair]] = {"torch": [], "exported": []}
    for pair in tqdm(pairs, desc=root.name, unit="image", disable=None):
        image = read_image(pair.image)
        for name, saliency in (("torch", predictor(image)), ("exported", run(image[None])[0])):
            path = scratch / name / f"{pair.name}.png"
            write_png(path, _written(saliency))
            scored[name].append(ScorePair(pair.name, path, pair.mask, pair.coding))
    ours, theirs = (score_maps(scored[name]).measures for name in ("torch", "exported"))
    return {
        key: {"torch": round(value, 5), "exported": round(theirs[key], 5), "change": round(theirs[key] - value, 5)}
        for key, value in ours.items()
    }


def change_lines(name: str, changes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A small table: measure, PyTorch, exported, change."""
    lines = [f"{name:24}   PyTorch  exported    change"]
    for key, row in changes.items():
        label = LABELS[key].split(" (")[0]
        lines.append(f"  {label:22}   {row['torch']:7.4f}   {row['exported']:7.4f}   {row['change']:+7.4f}")
    return lines


def _written(saliency: NDArray[np.float32]) -> Pixels:
    return to_8bit(np.ascontiguousarray(saliency))
