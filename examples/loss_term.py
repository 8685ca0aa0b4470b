"""A loss term of your own: the soft Dice loss.

    python train.py --plugins examples/loss_term.py --loss.terms '{"dice": 0.5}' --data.root DIR

A term is a function (logits, mask) -> scalar. Both are (B, 1, H, W) in float32; the mask is 0 or 1. Make it a mean over
the images: then a batch that is computed in parts, or by several processes, has the same loss.
"""

import torch
from torch import Tensor

from net.losses import loss_term


@loss_term("dice")
def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (2 I + 1) / (A + B + 1) an image, averaged over the batch."""
    probability = torch.sigmoid(logits)
    intersection = (probability * mask).sum((1, 2, 3))  # (B,)
    total = (probability + mask).sum((1, 2, 3))
    return (1 - (2 * intersection + 1) / (total + 1)).mean()
