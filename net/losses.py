"""The training loss: BCE, IoU and progressive polishing on all three outputs.

Source: the paper's abstract and Figure 2 name a progressive polishing loss that penalises misaligned boundaries and
supervises all three outputs with one boundary map; its equation is not public. This is our reading: the
differentiable boundary F1 of Bokhovkin and Burnaev (arXiv 1905.07852, 2019), with a tolerance that shrinks from the
coarse output to the fine one. The IoU term is LDF's. Weights are our choice. So is distillation, see `distilled`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from net.auto_msfnet import Logits
from net.settings import LossConfig
from settings.plugins import Registry
from utils.errors import UserError


class LossError(UserError):
    """A term of the loss that is not registered."""


Term = Callable[[Tensor, Tensor], Tensor]
REGISTRY: Registry[Term] = Registry("loss term", LossError)
"""Terms of the user, by the name that `LossConfig.terms` weighs."""


def loss_term(name: str) -> Callable[[Term], Term]:
    """Registers a term `(logits, mask) -> scalar` of the loss, both (B, 1, H, W) in float32, the mask 0 or 1.

    It should be a mean over the images, so that a batch may be computed in parts. `--loss.terms '{"NAME": 0.5}'`
    turns it on with that weight, on all three outputs.

    Raises:
        LossError: if the name is taken.
    """
    return REGISTRY.register(name)


def check_terms(config: LossConfig) -> None:
    """Checks that every term in `config.terms` is registered. Call it once the files of `--plugins` have run.

    Raises:
        LossError: for the first unknown name, with the registered ones.
    """
    for name in config.terms or {}:
        REGISTRY.find(name)


class LossTerms(NamedTuple):
    """The loss and its weighted parts, each a scalar summed over the outputs; `total` is their sum."""

    total: Tensor
    bce: Tensor
    iou: Tensor
    polish: Tensor
    registered: Tensor
    """Sum of the terms that `LossConfig.terms` names; 0 without any."""
    distillation: Tensor
    """BCE with a teacher's soft map, see `distilled`; 0 without one."""


def saliency_loss(logits: Logits, mask: Tensor, config: LossConfig, done: float = 1.0) -> LossTerms:
    """The whole training loss, in float32 even inside autocast.

    Every term is a mean over the images. The loss of a batch is therefore the mean of the losses of its equal parts,
    whether these are computed one after the other or in several processes.

    Args:
        logits: three outputs, each (B, 1, H, W).
        mask: (B, 1, H, W), 0 or 1.
        config: weights and widths.
        done: share of the run that is done, for `ramp`.
    """
    if done < config.ramp:
        config = replace(config, polish=config.polish * done / config.ramp, ramp=0.0)
    with torch.autocast(mask.device.type, enabled=False):
        mask = mask.float()
        rim = boundary(mask, config.theta0) if config.polish else mask  # once for all outputs
        parts = [
            torch.stack(_terms(output.float(), mask, rim, config, theta)) * weight
            for output, theta, weight in zip(logits, config.theta, config.outputs, strict=True)
        ]
    bce, iou, polish, registered = torch.stack(parts).sum(0)  # (3 outputs, 4 terms) -> (4,)
    return LossTerms(bce + iou + polish + registered, bce, iou, polish, registered, bce.new_zeros(()))


def distilled(terms: LossTerms, logits: Logits, soft_map: Tensor, config: LossConfig, weight: float) -> LossTerms:
    """The training loss with a second target: (1 - weight) * loss + weight * BCE with the soft map of a teacher.

    Source: the idea of Hinton, Vinyals and Dean (arXiv 1503.02531), who add a soft target of a teacher to the label.
    Auto-MSFNet has no teacher. Its form here is our choice: BCE on all three outputs with the weights of
    `LossConfig.outputs`, temperature 1, no IoU and no polishing, which expect a binary mask. In float32 as the loss.

    Args:
        terms: of `saliency_loss` for the same logits.
        logits: three outputs, each (B, 1, H, W).
        soft_map: (B, 1, H, W), 0 to 1.
        config: weights of the outputs.
        weight: 0 to 1.

    Returns:
        Terms of which `total` is again the sum: those of the mask are scaled by 1 - weight.
    """
    with torch.autocast(soft_map.device.type, enabled=False):
        parts = [
            F.binary_cross_entropy_with_logits(output.float(), soft_map) * share
            for output, share in zip(logits, config.outputs, strict=True)
        ]
    added = weight * torch.stack(parts).sum()
    scaled = LossTerms(*((1 - weight) * term for term in terms))
    return scaled._replace(total=scaled.total + added, distillation=added)


def _terms(
    logits: Tensor, mask: Tensor, rim: Tensor, config: LossConfig, theta: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted BCE, IoU, polishing and registered terms of one output; a term that is off costs nothing."""
    off = logits.new_zeros(())
    probability = torch.sigmoid(logits)
    return (
        config.bce * F.binary_cross_entropy_with_logits(logits, mask) if config.bce else off,
        config.iou * iou_loss(probability, mask) if config.iou else off,
        config.polish * _boundary_loss(probability, rim, config.theta0, theta) if config.polish else off,
        sum((weight * REGISTRY.find(name)(logits, mask) for name, weight in (config.terms or {}).items()), off),
    )


def iou_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """Soft IoU loss, 1 - (I + 1) / (U - I + 1) an image, averaged over the batch.

    U is the sum of both maps, as in LDF, whose formula this is. An empty mask is well defined.

    Shapes:
        probability, mask: (B, 1, H, W); returns a scalar.
    """
    intersection = (probability * mask).sum((1, 2, 3))
    total = (probability + mask).sum((1, 2, 3))
    return (1 - (intersection + 1) / (total - intersection + 1)).mean()


def boundary(x: Tensor, width: int) -> Tensor:
    """Soft inner boundary of a map in [0, 1]: the greatest fall from a pixel to its window.

    The image's border is no boundary: the window reads only pixels that exist.

    Shapes:
        x: (B, 1, H, W); returns the same.
    """
    inverse = 1 - x
    return _dilate(inverse, width) - inverse


def boundary_loss(probability: Tensor, mask: Tensor, theta0: int, theta: int) -> Tensor:
    """One minus the boundary F1, averaged over the images; 0 for one whose mask has no boundary.

    Source: Bokhovkin and Burnaev 2019. An image whose mask is empty or full has no boundary to hit. It adds nothing
    but still counts, so that the mean over a batch is that over its parts.

    Args:
        probability: (B, 1, H, W), in [0, 1], not logits.
        mask: (B, 1, H, W), 0 or 1.
        theta0: window that extracts a boundary, pixels.
        theta: window within which a boundary counts as hit, pixels.

    Returns:
        A scalar in [0, 1].
    """
    return _boundary_loss(probability, boundary(mask, theta0), theta0, theta)


def _boundary_loss(probability: Tensor, true: Tensor, theta0: int, theta: int) -> Tensor:
    """`boundary_loss` for a mask whose boundary is known, (B, 1, H, W)."""
    predicted = boundary(probability, theta0)
    area = true.sum((1, 2, 3))  # (B,)
    tiny = 1e-7
    precision = (predicted * _dilate(true, theta)).sum((1, 2, 3)) / (predicted.sum((1, 2, 3)) + tiny)
    recall = (true * _dilate(predicted, theta)).sum((1, 2, 3)) / (area + tiny)
    loss = 1 - 2 * precision * recall / (precision + recall + tiny)  # (B,)
    return (loss * (area > 0)).mean()


def _dilate(x: Tensor, width: int) -> Tensor:
    """Maximum over a square window: (B, 1, H, W) -> the same."""
    # With the images as channels, channels last, the CPU kernel is vectorised over them: 7 times as fast.
    images = x.transpose(0, 1).contiguous(memory_format=torch.channels_last)  # (1, B, H, W)
    return F.max_pool2d(images, width, stride=1, padding=width // 2).transpose(0, 1)
