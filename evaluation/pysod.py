"""The built-in measures of one map, computed by the classes of `pysodmetrics` on one prepared pair.

Pang et al., github.com/lartpang/PySODMetrics, 1.6.2. The library would threshold the mask and stretch the map again for
every measure; here that is done once. Two slow steps have faster twins. Neither changes a number: the tests compare
with the library's own classes to 1e-9. Differs from it: S is a number also where the library gives NaN, for an object
whose centre lies in the last row or column.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.measures import KEYS, Measure, MeasureError, Values
from utils.stand_ins import at_call, stand_ins

_UNUSED = "py_sod_metrics.context_measure"  # imports scikit-learn, which takes longer than the rest of the library

with stand_ins({_UNUSED: {name: at_call(_UNUSED, name) for name in ("CamouflageContextMeasure", "ContextMeasure")}}):
    import py_sod_metrics as sod
    from py_sod_metrics.utils import prepare_data

Array = NDArray[np.float64]


class MapNumbers(NamedTuple):
    """Measures of one map, and its curves.

    Shapes:
        curves: (4, 256): precision, recall, F and E where a pixel is salient from the threshold 0..255 on. NaN where
            no measure asked for them.
    """

    values: Values
    curves: Array


def measure_map(
    saliency: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    keys: Collection[str] = KEYS,
    extra: Sequence[Measure] = (),
) -> MapNumbers:
    """Measures of one map.

    Args:
        saliency: (H, W), 0..255; stretched to its own range first, as the field's tools do.
        mask: (H, W), 0..255; foreground above 128.
        keys: the built-in measures that are wanted; the others are not computed.
        extra: registered measures (`evaluation.measures.registered`).

    Raises:
        MeasureError: a registered measure gives no finite number.
    """
    pair = prepare_data(saliency, mask)
    values: Values = {}
    curves = np.full((4, 256), np.nan)
    for group, read in _READERS.items():
        if not group.isdisjoint(keys):
            found, rows = read(pair)
            values |= found
            for name, curve in rows.items():
                curves[_ROWS[name]] = curve
    curves = curves[:, ::-1]  # the library counts thresholds down from 255
    values |= {"meanf": curves[2].mean(), "maxf": curves[2].max(), "meane": curves[3].mean(), "maxe": curves[3].max()}
    values = {key: float(values[key]) for key in KEYS if key in keys}
    return MapNumbers(values | {each.key: _number(each, pair) for each in extra}, curves)


def _number(measure: Measure, pair: tuple[NDArray, NDArray]) -> float:
    assert measure.function is not None
    try:
        value = float(measure.function(*pair))
    except Exception as error:  # the user's own code
        raise MeasureError(f"measure {measure.key}: {type(error).__name__}: {error}. Mend its function.") from error
    if not np.isfinite(value):
        raise MeasureError(f"measure {measure.key}: gives {value}, no finite number. Mend its function.")
    return value


_ROWS = {"precision": 0, "recall": 1, "f": 2, "e": 3}
Found = tuple[Values, dict[str, Array]]
"""Values, and curves by name at the thresholds 255..0."""


def _mae(pair: tuple[NDArray, NDArray]) -> Found:
    return {"mae": _stepped(sod.MAE(), pair)["mae"]}, {}


def _s(pair: tuple[NDArray, NDArray]) -> Found:
    return {"sm": _stepped(_WholeSmeasure(), pair)["sm"]}, {}


def _weighted_f(pair: tuple[NDArray, NDArray]) -> Found:
    return {"wfm": _stepped(sod.WeightedFmeasure(), pair)["wfm"]}, {}


def _boundary(pair: tuple[NDArray, NDArray]) -> Found:
    return {"msiou": _stepped(_QuickMSIoU(with_dynamic=False, with_adaptive=True), pair)["adaptive"]}, {}


def _f(pair: tuple[NDArray, NDArray]) -> Found:
    handlers = {
        "f": sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
        "precision": sod.PrecisionHandler(with_dynamic=True, with_adaptive=False),
        "recall": sod.RecallHandler(with_dynamic=True, with_adaptive=False),
    }
    found = _stepped(_QuickFmeasure(handlers), pair)
    return {"adpf": found["f"]["adaptive"]}, {name: curve["dynamic"] for name, curve in found.items()}


def _e(pair: tuple[NDArray, NDArray]) -> Found:
    found = _stepped(sod.Emeasure(), pair)["em"]
    return {"adpe": found["adp"]}, {"e": found["curve"]}


def _stepped(counter: Any, pair: tuple[NDArray, NDArray]) -> Any:
    """What one of the library's counters finds on one prepared pair."""
    counter.step(*pair, normalize=False)
    return counter.get_results()


_READERS: Mapping[frozenset[str], Callable[[tuple[NDArray, NDArray]], Found]] = {
    frozenset({"mae"}): _mae,
    frozenset({"sm"}): _s,
    frozenset({"wfm"}): _weighted_f,
    frozenset({"adpf", "meanf", "maxf"}): _f,
    frozenset({"adpe", "meane", "maxe"}): _e,
    frozenset({"msiou"}): _boundary,
}
"""Measures that come out of one pass of the library -> that pass."""


class _WholeSmeasure(sod.Smeasure):
    """The library's S, also for an object whose centre lies in the last row or column."""

    def ssim(self, pred: NDArray, gt: NDArray[np.bool_]) -> float:
        """Similarity of one quarter of the image. The library gives NaN for an empty one, though it weighs
        nothing."""
        return super().ssim(pred, gt) if gt.size else 0.0


class _QuickMSIoU(sod.MSIoU):
    """The library's MSIoU with the same numbers, sooner: edges stay booleans, the grids are one pyramid."""

    def get_edge(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the Sobel gradient of a mask is not zero; the library goes by way of `hypot` in float16.

        Shapes:
            mask, returns: (H, W).
        """
        rows = ndimage.sobel(mask, axis=0, mode="constant")
        columns = ndimage.sobel(mask, axis=1, mode="constant")
        # Gradients of booleans come back in bytes called booleans, of any value.
        return (rows.view(np.uint8) | columns.view(np.uint8)) != 0

    def multi_scale_iou(self, pred_edge: NDArray, gt_edge: NDArray, gt_shrunk_cache: list | None = None) -> list:
        """How much of the mask's edges the map's edges cover, in cells of 1, 2, 4, ... pixels.

        Args:
            pred_edge, gt_edge: (H, W) booleans.
            gt_shrunk_cache: not used; the library's caller gives it to save work that is not done here.
        """
        ratios = []
        for _ in self.cell_sizes:  # each twice the one before
            # The library counts the mask's cells in float16; above 2048 that rounds, and so must this.
            known = gt_edge.astype(np.float16).sum() + 1
            ratios.append((np.count_nonzero(pred_edge & gt_edge) + 1) / known)
            pred_edge, gt_edge = _halve(pred_edge), _halve(gt_edge)
        return ratios

    def binarizing(  # pyright: ignore[reportIncompatibleMethodOverride] (annotated as a list there)
        self, pred_bin: NDArray, gt_edge: NDArray, gt_shrunk_cache: list | None = None
    ) -> np.floating:
        """MSIoU of a binary map; NumPy 2 renamed the library's `trapz`."""
        ratios = self.multi_scale_iou(self.get_edge(pred_bin), gt_edge, gt_shrunk_cache)
        return np.trapezoid(ratios, dx=1 / (len(self.cell_sizes) - 1))


def _halve(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which 2 x 2 blocks hold a cell. Blocks end at the bottom right: the library pads at the top left.

    Shapes:
        cells: (H, W).
        returns: (ceil(H / 2), ceil(W / 2)).
    """
    height, width = cells.shape
    cells = np.pad(cells, ((height % 2, 0), (width % 2, 0)))
    cells = cells[::2] | cells[1::2]
    return cells[:, ::2] | cells[:, 1::2]


class _QuickFmeasure(sod.FmeasureV2):
    """The library's F-measure; histograms of bytes are counted, where the library sorts."""

    def dynamically_binarizing(
        self,
        pred: NDArray,
        gt: NDArray[np.bool_],
        FG: int,  # noqa: N803 (the library's names)
        BG: int,  # noqa: N803
    ) -> dict[str, NDArray]:
        """True and false positives and negatives at the thresholds 255..0, (256,) each."""
        levels = (pred * 255).astype(np.uint8)
        inside = np.bincount(levels[gt], minlength=256)
        outside = np.bincount(levels.ravel(), minlength=256) - inside
        tp, fp = np.cumsum(inside[::-1]), np.cumsum(outside[::-1])
        return {"tp": tp, "fp": fp, "tn": BG - fp, "fn": FG - tp}
