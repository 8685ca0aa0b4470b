"""Scores of a network on held-out pictures, at the network's own resolution: what training chooses by."""

from collections.abc import Iterable

import numpy as np
import py_sod_metrics
import torch
from numpy.typing import NDArray

from data.datasets import Batch
from net.auto_msfnet import AutoMSFNet
from utils.device import autocast


@torch.inference_mode()
def validate(network: AutoMSFNet, batches: Iterable[Batch], device: torch.device, precision: str) -> dict[str, float]:
    """Measures P1 with pysodmetrics.

    Args:
        network: any mode; it is left in eval mode.
        batches: image (B, 3, S, S), mask (B, 1, S, S).
        device: where the network is.
        precision: `fp32`, `bf16` or `fp16`.

    Returns:
        mae, wfm (weighted F), maxfm (maximal F of the mean curve), computed from 8-bit maps.
    """
    network.eval()
    mae, weighted = py_sod_metrics.MAE(), py_sod_metrics.WeightedFmeasure()
    curve = py_sod_metrics.FmeasureV2(
        metric_handlers={"fm": py_sod_metrics.FmeasureHandler(with_adaptive=False, with_dynamic=True, beta=0.3)}
    )
    for batch in batches:
        with autocast(device, precision):
            logits = network(batch.image.to(device, non_blocking=True)).p1
        for predicted, true in zip(_to_bytes(torch.sigmoid(logits.float())), _to_bytes(batch.mask), strict=True):
            for measure in (mae, weighted, curve):
                measure.step(predicted, true)
    return {
        "mae": float(mae.get_results()["mae"]),
        "wfm": float(weighted.get_results()["wfm"]),
        "maxfm": float(curve.get_results()["fm"]["dynamic"].max()),
    }


def _to_bytes(maps: torch.Tensor) -> NDArray[np.uint8]:
    return (maps[:, 0] * 255).round().byte().cpu().numpy()  # (B, 1, S, S) -> (B, S, S)
