"""Strata: where does a method fail? Groups of images by what their masks, or images, show.

    area       share of the image that is foreground: below 5 %, 5 to 15 %, 15 to 35 %, above
    count      number of objects: connected parts of at least 1 % of the foreground
    contrast   thirds of the dataset by the distance between the colours of foreground and background; needs images
    border     whether the foreground touches the border of the image

Masks without foreground, and full ones, are a stratum of their own in each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import read_image
from data.masks import read_mask
from evaluation.metrics import DatasetScores
from evaluation.statistics import Resampled, resample
from evaluation.targets import Target
from utils.errors import UserError

KINDS = ("area", "count", "contrast", "border")
AREAS = (0.05, 0.15, 0.35)
LEAST_PART = 0.01  # of the foreground, for a connected part to count as an object
_BINS = 8  # of a colour channel
_NOTHING = "no foreground or no background"


class StrataError(UserError):
    """Strata that cannot be found."""


@dataclass(frozen=True)
class Stratum:
    """A group of images.

    Args:
        label: what they have in common.
        places: of the images, in the dataset's order.
    """

    label: str
    places: tuple[int, ...]


def find_strata(kind: str, targets: Sequence[Target]) -> list[Stratum]:
    """Groups the images of a dataset; strata without images are left out.

    Args:
        kind: one of `KINDS`.
        targets: masks, and images for `contrast`.

    Raises:
        StrataError: `contrast` without an image of every mask.
    """
    check_strata([kind], targets)
    values = [_value(kind, target) for target in targets]
    labels = _LABELS[kind]([value for value in values if value is not None])
    found = [labels(value) if value is not None else _NOTHING for value in values]
    return [
        Stratum(label, tuple(place for place, name in enumerate(found) if name == label))
        for label in sorted(set(found), key=lambda label: (label == _NOTHING, labels.order(label)))
    ]


def check_strata(kinds: Sequence[str], targets: Sequence[Target]) -> None:
    """Checks that the strata can be found; cheap, so that it can run before any scoring.

    Raises:
        StrataError: an unknown kind, or `contrast` without an image of every mask.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise StrataError(f"--strata {kind}: is no kind of strata. Choose from {', '.join(KINDS)}.")
    missing = next((target.mask for target in targets if target.image is None), None)
    if "contrast" in kinds and missing is not None:
        raise StrataError(f"--strata contrast: there is no image of {missing}. Give --data DIR with the images.")


@dataclass(frozen=True)
class StratumScores:
    """A method's scores on one stratum.

    Args:
        values: measure -> value.
        intervals: measure -> ends of the 95 % interval; empty below two images, or where none are wanted.
    """

    stratum: Stratum
    method: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def score_strata(strata: Sequence[Stratum], scores: dict[str, DatasetScores], resamples: int) -> list[StratumScores]:
    """Every method's scores on every stratum."""
    return [
        _score(stratum, method, of_method.subset(stratum.places), resamples)
        for stratum in strata
        for method, of_method in scores.items()
    ]


def _score(stratum: Stratum, method: str, scores: DatasetScores, resamples: int) -> StratumScores:
    keys = tuple(scores.measures)
    if len(stratum.places) < 2 or not resamples:
        return StratumScores(stratum, method, scores.measures, {})
    sample: Resampled = resample(scores, resamples)
    ends = {key: (float(low), float(high)) for key, (low, high) in zip(keys, sample.intervals(), strict=True)}
    return StratumScores(stratum, method, scores.measures, ends)


def object_count(mask: NDArray[np.bool_]) -> int:
    """Connected parts (8 neighbours) of at least `LEAST_PART` of the foreground."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return int((areas >= LEAST_PART * mask.sum()).sum())


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Whether the first or last row or column holds foreground."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def contrast(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Chi-square distance of the colour histograms of foreground and background, 0 (equal) to 1 (no colour in common).

    Source: Li et al., "The secrets of salient object segmentation", CVPR 2014, with 8 bins a channel of CIE Lab.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB) // (256 // _BINS)
    codes = (lab[..., 0].astype(np.int64) * _BINS + lab[..., 1]) * _BINS + lab[..., 2]
    inside, outside = (np.bincount(codes[part], minlength=_BINS**3) / part.sum() for part in (mask, ~mask))
    total = inside + outside
    return float((((inside - outside) ** 2)[total > 0] / total[total > 0]).sum() / 2)


def _value(kind: str, target: Target) -> float | None:
    """What decides the stratum of an image; None for an empty or a full mask."""
    mask = read_mask(target.mask, target.coding) >= 128
    return _VALUES[kind](mask, target) if 0 < mask.mean() < 1 else None


def _contrast(mask: NDArray[np.bool_], target: Target) -> float:
    assert target.image is not None
    image = read_image(target.image)
    if image.shape[:2] != mask.shape:
        image = cv2.resize(image, mask.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    return contrast(image, mask)


_VALUES: dict[str, Callable[[NDArray[np.bool_], Target], float]] = {
    "area": lambda mask, target: float(mask.mean()),
    "count": lambda mask, target: float(object_count(mask)),
    "contrast": _contrast,
    "border": lambda mask, target: float(touches_border(mask)),
}


class _Labels:
    """Labels of the values between bounds, in their order."""

    def __init__(self, bounds: Sequence[float], labels: Sequence[str]) -> None:
        self._bounds, self._labels = bounds, list(labels)

    def __call__(self, value: float) -> str:
        return self._labels[int(np.searchsorted(self._bounds, value, side="right"))]

    def order(self, label: str) -> int:
        return self._labels.index(label) if label in self._labels else len(self._labels)


def _thirds(values: Sequence[float]) -> _Labels:
    low, high = np.quantile(values, [1 / 3, 2 / 3]) if values else (0.0, 0.0)
    labels = (f"low (below {low:.2f})", f"middle ({low:.2f} to {high:.2f})", f"high (from {high:.2f} on)")
    return _Labels((float(low), float(high)), labels)


_LABELS: dict[str, Callable[[Sequence[float]], _Labels]] = {
    "area": lambda values: _Labels(AREAS, ("below 5 %", "5 to 15 %", "15 to 35 %", "from 35 % on")),
    "count": lambda values: _Labels((1.5, 2.5), ("1 object", "2 objects", "3 or more objects")),
    "contrast": _thirds,
    "border": lambda values: _Labels((0.5,), ("inside the image", "touches the border")),
}
