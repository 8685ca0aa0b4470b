"""Scores of a network on the validation split, at the network's own resolution: what training chooses by."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.datasets import Batch, SaliencyDataset, SampleKey, collate
from data.transforms import MEAN, STD
from evaluation.metrics import ScoredMap, score_batch, summarise
from net.auto_msfnet import AutoMSFNet
from training.processes import Processes
from utils.device import autocast

MEASURES = ("mae", "wfm", "maxf")
"""Keys of `evaluation.measures` that a validation computes."""


def validate(
    network: AutoMSFNet, batches: Iterable[Batch], device: torch.device, precision: str, processes: Processes
) -> dict[str, float]:
    """Measures P1 with pysodmetrics. Communicates.

    Args:
        network: any mode; it is left in eval mode.
        batches: image (B, 3, S, S), mask (B, 1, S, S); with several processes the share of this one.
        device: where the network is.
        precision: `fp32`, `bf16` or `fp16`.
        processes: those that hold the other shares. Scores are of all images, each counted once, and do not depend on
            how many processes there are.

    Returns:
        mae, wfm (weighted F), maxf (maximal F of the mean curve), computed from 8-bit maps.

    Raises:
        DataError: if an image or mask cannot be read; all processes end.
    """
    with processes.agreeing():  # shares differ in length, so the processes agree once, when all have finished theirs
        share = score_share(network, batches, device, precision)
    scored = [one for part in processes.gather(share) for one in part]
    return summarise([one for _, one in sorted(scored, key=lambda one: one[0])])


@torch.inference_mode()
def score_share(
    network: AutoMSFNet, batches: Iterable[Batch], device: torch.device, precision: str
) -> list[tuple[int, ScoredMap]]:
    """The maps of all batches, each with the index of its image; see `validate`."""
    network.eval()
    scored: list[tuple[int, ScoredMap]] = []
    for batch in batches:
        with autocast(device, precision):
            logits = network(batch.image.to(device, non_blocking=True)).p1
        maps, masks = _to_bytes(torch.sigmoid(logits.float())), _to_bytes(batch.mask)
        places = batch.index.tolist()
        scored += zip(places, score_batch(maps, masks, map(str, places), MEASURES), strict=True)
    return scored


@torch.inference_mode()
def example_rows(
    network: AutoMSFNet, images: SaliencyDataset, size: int, device: torch.device, precision: str
) -> Tensor:
    """The first images, always the same, with mask, P1, P2 and P3 side by side.

    Shapes:
        returns: (4 at most, 3, size, 5 * size) in [0, 1].
    """
    batch = collate([images[SampleKey(0, index, size)] for index in range(min(4, len(images)))])
    network.eval()
    with autocast(device, precision):
        logits = network(batch.image.to(device))
    plain = batch.image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    maps = [batch.mask, *(torch.sigmoid(output.float().cpu()) for output in logits)]
    return torch.cat([plain, *(one.expand(-1, 3, -1, -1) for one in maps)], dim=3).clamp(0, 1)


def _to_bytes(maps: Tensor) -> NDArray[np.uint8]:
    return (maps[:, 0] * 255).round().byte().cpu().numpy()  # (B, 1, S, S) -> (B, S, S)
