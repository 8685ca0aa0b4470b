"""Which images are worth looking at: the best, the median and the worst, and where methods disagree most."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.measures import label, lower_is_better
from evaluation.methods import Evaluated
from evaluation.pysod import Array

RANKED_BY = "sm"
"""S is defined on every mask, empty and full ones too, and needs no threshold."""

KINDS: Mapping[str, str] = {
    "best": "Best",
    "median": "Median",
    "worst": "Worst",
    "disagreement": "Largest disagreement",
}


@dataclass(frozen=True)
class Selection:
    """Places (in the dataset's order) of the images of each kind, the strongest examples first.

    Args:
        kinds: a key of `KINDS` -> places; no disagreement where there is one method only.
        key: the measure by which they were ranked.
    """

    kinds: Mapping[str, tuple[int, ...]]
    key: str

    def rule(self, kind: str) -> str:
        """How the images of a kind were chosen, for a caption."""
        if kind == "disagreement":
            return f"largest difference between two methods in {label(self.key)}"
        return f"{kind} by {label(self.key)}, mean of the methods"


def select(evaluated: Evaluated, count: int, key: str = RANKED_BY) -> Selection:
    """Chooses `count` images of each kind, or all there are.

    Args:
        key: measure of a single map (a name of `evaluation.metrics.Measures`) that ranks the images.
    """
    scores = image_scores(evaluated, key)  # (M, N)
    mean, gap = scores.mean(axis=0), np.ptp(scores, axis=0)
    order = np.argsort(mean if lower_is_better(key) else -mean, kind="stable")  # best first
    middle = max(0, (len(order) - count) // 2)
    chosen = {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}
    if len(scores) > 1:
        chosen["disagreement"] = np.argsort(-gap, kind="stable")[:count]
    return Selection({kind: tuple(map(int, places)) for kind, places in chosen.items()}, key)


def image_scores(evaluated: Evaluated, key: str) -> Array:
    """(M, N): a measure of every method's map of every image."""
    return np.array([[row.measures[key] for row in scores.rows] for scores in evaluated.scores.values()])
