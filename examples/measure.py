"""A measure of one's own, scored and compared beside the built-in ones.

python evaluate.py --plugins examples/measure.py --data ECSSD=DIR --maps ours=runs/test/maps
"""

from numpy import bool_, float64
from numpy.typing import NDArray

from evaluation.measures import measure


@measure("iou", "IoU at 0.5")
def intersection_over_union(saliency: NDArray[float64], mask: NDArray[bool_]) -> float:
    """Intersection over union of the map, cut at one half, with the mask; 1 where both are empty."""
    found = saliency >= 0.5
    union = (found | mask).sum()
    return float((found & mask).sum() / union) if union else 1.0
