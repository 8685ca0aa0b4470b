"""What `pysodmetrics` says of one map: its classes, each fed the same prepared pair.

Pang et al., github.com/lartpang/PySODMetrics, 1.6.2. The library would threshold the mask and stretch the map again for
every measure; here that is done once. Two slow steps have faster twins. Neither changes a number: the tests compare
with the library's own classes to 1e-9. Differs from it: S is a number also where the library gives NaN, for an object
whose centre lies in the last row or column.
"""

from typing import NamedTuple

import numpy as np
import py_sod_metrics as sod
from numpy.typing import NDArray
from py_sod_metrics.utils import prepare_data
from scipy import ndimage

Array = NDArray[np.float64]


class MapNumbers(NamedTuple):
    """Measures of one map that stand alone, and its curves.

    Shapes:
        curves: (4, 256): precision, recall, F and E where a pixel is salient from the threshold 0..255 on.
    """

    mae: float
    sm: float
    wfm: float
    adpf: float
    adpe: float
    msiou: float
    curves: Array


def measure(saliency: NDArray[np.uint8], mask: NDArray[np.uint8]) -> MapNumbers:
    """All measures of one map.

    Args:
        saliency: (H, W), 0..255; stretched to its own range first, as the field's tools do.
        mask: (H, W), 0..255; foreground above 128.
    """
    pair = prepare_data(saliency, mask)
    library = _Library.fresh()
    for part in library:
        part.step(*pair, normalize=False)
    f, e = library.f.get_results(), library.e.get_results()["em"]
    curves = np.stack([f["precision"]["dynamic"], f["recall"]["dynamic"], f["f"]["dynamic"], e["curve"]])
    return MapNumbers(
        mae=float(library.mae.get_results()["mae"]),
        sm=float(library.s.get_results()["sm"]),
        wfm=float(library.weighted_f.get_results()["wfm"]),
        adpf=float(f["f"]["adaptive"]),
        adpe=float(e["adp"]),
        msiou=float(library.boundary.get_results()["adaptive"]),
        curves=curves[:, ::-1],  # the library counts thresholds down from 255
    )


class _Library(NamedTuple):
    mae: sod.MAE
    s: sod.Smeasure
    weighted_f: sod.WeightedFmeasure
    e: sod.Emeasure
    f: sod.FmeasureV2
    boundary: sod.MSIoU

    @classmethod
    def fresh(cls) -> "_Library":
        """Empty counters, for one map."""
        handlers = {
            "f": sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
            "precision": sod.PrecisionHandler(with_dynamic=True, with_adaptive=False),
            "recall": sod.RecallHandler(with_dynamic=True, with_adaptive=False),
        }
        boundary = _QuickMSIoU(with_dynamic=False, with_adaptive=True)
        f = _QuickFmeasure(handlers)
        return cls(sod.MAE(), _WholeSmeasure(), sod.WeightedFmeasure(), sod.Emeasure(), f, boundary)


class _WholeSmeasure(sod.Smeasure):
    """The library's S, also for an object whose centre lies in the last row or column."""

    def ssim(self, pred: NDArray, gt: NDArray[np.bool_]) -> float:
        """Similarity of one quarter of the picture. The library gives NaN for an empty one, though it weighs
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
