"""An encoder of your own: five strided convolutions.

    python train.py --plugins examples/encoder.py --network.encoder tiny --encoder-weights none --data.root DIR

An encoder maps an image (B, 3, H, W) to four levels E2..E5 and publishes their widths and strides. The cells are at
strides 16, 8 and 4, so levels at these three strides are needed.
"""

from itertools import pairwise

from torch import Tensor, nn

from net.encoder import Encoder, EncoderError, encoder


class Tiny(Encoder):
    """Levels at strides 4, 8, 16, 32."""

    channels = (16, 32, 64, 64)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, *self.channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise(widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> E2..E5, each (B, channels[i], H / strides[i], W / strides[i])."""
        levels, x = [], image
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        return levels[1:]


@encoder("tiny")
def tiny(imagenet: bool) -> Encoder:
    """Random weights: there are none from ImageNet."""
    if imagenet:
        raise EncoderError("encoder 'tiny' has no ImageNet weights. Give --encoder-weights none or a file.")
    return Tiny()
