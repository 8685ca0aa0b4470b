"""A folded network with its preprocessing and postprocessing, as one module: raw images in, maps out.

The same numerics as `inference.predictor`: bilinear to the network's square in float32, ImageNet mean and deviation,
logits resized to the image bilinearly, then the sigmoid. Whoever runs an exported file does not write them again.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.transforms import MEAN, STD


class EndToEnd(nn.Module):
    """See the module's docstring.

    Args:
        network: (B, 3, S, S) to the logits of P1, such as a folded network.
        size: side S of the square that it computes at.

    Shapes:
        image: (B, H, W, 3) uint8, RGB, any H and W.
        returns: (B, H, W) float32 in [0, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        height, width = image.shape[1], image.shape[2]
        x = image.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        logits = self.network(x * self.scale + self.shift)  # (B, 1, S, S)
        return F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False).sigmoid()[:, 0]
