"""Scores of a network on held-out pictures, at the network's own resolution: what training chooses by."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import py_sod_metrics as sod
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.datasets import Batch, SaliencyDataset, SampleKey, collate
from data.transforms import MEAN, STD
from net.auto_msfnet import AutoMSFNet
from utils.device import autocast
from utils.distributed import Processes


class PictureScores(NamedTuple):
    """Measures of one map: the index of its picture, MAE, weighted F, F at the thresholds 255..0 (256,)."""

    picture: int
    mae: float
    wfm: float
    curve: NDArray[np.float64]


@torch.inference_mode()
def validate(
    network: AutoMSFNet,
    batches: Iterable[Batch],
    device: torch.device,
    precision: str,
    processes: Processes | None = None,
) -> dict[str, float]:
    """Measures P1 with pysodmetrics.

    Args:
        network: any mode; it is left in eval mode.
        batches: image (B, 3, S, S), mask (B, 1, S, S); with several processes the share of this one.
        device: where the network is.
        precision: `fp32`, `bf16` or `fp16`.
        processes: those that hold the other shares. Scores are of all pictures, each counted once, and do not
            depend on how many processes there are.

    Returns:
        mae, wfm (weighted F), maxfm (maximal F of the mean curve), computed from 8-bit maps.
    """
    network.eval()
    scores: list[PictureScores] = []
    for batch in batches:
        with autocast(device, precision):
            logits = network(batch.image.to(device, non_blocking=True)).p1
        maps, masks = _to_bytes(torch.sigmoid(logits.float())), _to_bytes(batch.mask)
        scores += map(score, batch.index.tolist(), maps, masks)
    if processes is not None:
        scores = [one for share in processes.gather(scores) for one in share]
    scores.sort(key=lambda one: one.picture)
    return {
        "mae": float(np.mean([one.mae for one in scores])),
        "wfm": float(np.mean([one.wfm for one in scores])),
        "maxfm": float(np.mean([one.curve for one in scores], axis=0).max()),
    }


def score(picture: int, predicted: NDArray[np.uint8], true: NDArray[np.uint8]) -> PictureScores:
    """Scores of one map.

    Shapes:
        predicted, true: (S, S), 0..255.
    """
    handler = sod.FmeasureHandler(with_adaptive=False, with_dynamic=True, beta=0.3)
    mae, weighted, curve = sod.MAE(), sod.WeightedFmeasure(), sod.FmeasureV2(metric_handlers={"fm": handler})
    for measure in (mae, weighted, curve):
        measure.step(predicted, true)
    return PictureScores(
        picture, float(mae.get_results()["mae"]), float(weighted.get_results()["wfm"]),
        curve.get_results()["fm"]["dynamic"],
    )  # fmt: skip


@torch.inference_mode()
def picture_rows(
    network: AutoMSFNet, pictures: SaliencyDataset, size: int, device: torch.device, precision: str
) -> Tensor:
    """The first pictures, always the same, with mask, P1, P2 and P3 side by side.

    Shapes:
        returns: (4 at most, 3, size, 5 * size) in [0, 1].
    """
    batch = collate([pictures[SampleKey(0, index, size)] for index in range(min(4, len(pictures)))])
    network.eval()
    with autocast(device, precision):
        logits = network(batch.image.to(device))
    plain = batch.image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    maps = [batch.mask, *(torch.sigmoid(output.float().cpu()) for output in logits)]
    return torch.cat([plain, *(one.expand(-1, 3, -1, -1) for one in maps)], dim=3).clamp(0, 1)


def _to_bytes(maps: Tensor) -> NDArray[np.uint8]:
    return (maps[:, 0] * 255).round().byte().cpu().numpy()  # (B, 1, S, S) -> (B, S, S)
