"""Names of the measures, the same in every table, log and file; further measures are registered by name.

    @measure("iou", "IoU at 0.5")
    def intersection_over_union(saliency, mask):
        found = saliency >= 0.5
        return (found & mask).sum() / max(1, (found | mask).sum())

The ten built-in ones are computed by `evaluation.pysod`. A registered one is scored, tested and printed beside them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

Function = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]
Values = dict[str, float]
"""Name of a measure -> value in 0..1."""


class MeasureError(UserError):
    """A measure that cannot be registered, is unknown or gives no number."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        key: its name in files and on the command line.
        label: its name and variant in tables.
        lower_is_better: as for an error.
        function: `(saliency, mask) -> float`; None for those of `evaluation.pysod`.
    """

    key: str
    label: str
    lower_is_better: bool = False
    function: Function | None = None


LABELS: dict[str, str] = {
    "mae": "MAE",
    "sm": "S (alpha=0.5)",
    "wfm": "weighted F (beta^2=1)",
    "adpf": "adaptive F (beta^2=0.3)",
    "meanf": "mean F (beta^2=0.3)",
    "maxf": "max F (beta^2=0.3)",
    "adpe": "adaptive E",
    "meane": "mean E",
    "maxe": "max E",
    "msiou": "adaptive MSIoU (boundary recall)",
}
"""What each built-in measure is called in tables: name and variant."""

KEYS = tuple(LABELS)
MAXIMA = {"maxf": "f", "maxe": "e"}
"""Measures that are the maximum of a dataset's mean curve; every other value is the mean over the images."""
FORMER = {"maxfm": "maxf"}
"""Keys of earlier releases in logs and weights files."""

_REGISTRY = {key: Measure(key, label, key == "mae") for key, label in LABELS.items()}


def measure(name: str, label: str = "", lower_is_better: bool = False) -> Callable[[Function], Function]:
    """Registers a measure of one map; its value of a dataset is the mean over the images.

    The function gets the map, (H, W) float64 in 0..1, stretched to its own range as for the other measures, and the
    mask, (H, W) bool. It returns one finite number.

    Args:
        name: key in files and on the command line; letters, digits and `_`.
        label: head of its column; by default the name.
        lower_is_better: whether small values are good.

    Raises:
        MeasureError: the name is no identifier or is that of another measure.
    """

    def register(function: Function) -> Function:
        if not name.isidentifier():
            raise MeasureError(f"measure {name!r}: the name becomes a column; use letters, digits and _.")
        known = _REGISTRY.get(name)
        if known is not None and getattr(known.function, "__code__", None) != getattr(function, "__code__", function):
            raise MeasureError(f"measure {name!r}: the name is taken by '{known.label}'. Choose another name.")
        _REGISTRY[name] = Measure(name, label or name, lower_is_better, function)
        return function

    return register


def names() -> tuple[str, ...]:
    """All measures, the built-in ones first."""
    return tuple(_REGISTRY)


def registered() -> tuple[Measure, ...]:
    """The measures that were added with `measure`."""
    return tuple(each for each in _REGISTRY.values() if each.function is not None)


def find(name: str) -> Measure:
    """The measure of that name.

    Raises:
        MeasureError: it is unknown.
    """
    if name not in _REGISTRY:
        raise MeasureError(f"{name!r} is no measure. Choose from {', '.join(_REGISTRY)}, or register it.")
    return _REGISTRY[name]


def label(name: str) -> str:
    """Name and variant of a measure, for tables."""
    return find(name).label


def lower_is_better(name: str) -> bool:
    """Whether small values of a measure are good."""
    return find(name).lower_is_better


def renamed(values: dict[str, float]) -> Values:
    """Scores or logged numbers with the keys of today: `maxfm` and `validation/maxfm` become `maxf`."""
    return {_renamed(key): value for key, value in values.items()}


def _renamed(key: str) -> str:
    group, slash, name = key.rpartition("/")
    return f"{group}{slash}{FORMER.get(name, name)}"
