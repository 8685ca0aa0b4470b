"""A space with a planted operation, and scenes that only it can see.

Only `conv_3x3` sees where something is. The other candidates hand on the mean of each channel over the whole image, or
over each row, so no cell made of them can draw a mask. The scenes are bright squares at random places. The last cell
draws the map, so the four edges that lead the levels to it decide.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn
from torch.nn.functional import avg_pool2d

from data.image_io import write_png
from net import encoder as encoders
from net import operations
from net.encoder import Encoder
from net.settings import SpaceConfig
from net.wiring import edges


class MeanOver(nn.Module):
    """Mean over whole dimensions, at every place of them."""

    def __init__(self, dimensions: tuple[int, ...]) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x):
        return x.mean(self.dimensions, keepdim=True).expand_as(x)


class Pooled(Encoder):
    """Four levels at strides 4 to 32, each a convolution of the averaged image: a step takes milliseconds."""

    channels = (8, 8, 8, 8)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, width, 1) for width in self.channels)

    def forward(self, image):
        return [level(avg_pool2d(image, stride)) for level, stride in zip(self.levels, self.strides, strict=True)]


@contextmanager
def registered() -> Iterator[None]:
    """The candidates and the encoder are registered inside, and no longer after it."""
    operations.operation("test_mean")(lambda channels, affine: MeanOver((2, 3)))
    operations.operation("test_row_mean")(lambda channels, affine: MeanOver((3,)))
    encoders.encoder("test_pooled")(lambda imagenet: Pooled())
    try:
        yield
    finally:
        for name in ("test_mean", "test_row_mean"):
            del operations.REGISTRY.parts[name]
        del encoders.REGISTRY.parts["test_pooled"]


PLANTED = "conv_3x3"
SPACE = SpaceConfig("test_pooled", 16, ["test_mean", PLANTED, "test_row_mean"])
DECIDING = [edge for edge in edges() if (edge.cell, edge.kind) == (3, "outer")]


def write_squares(root: Path, count: int) -> None:
    """Writes bright squares on a dark background, 64 pixels, with their masks."""
    rng = np.random.default_rng(0)
    for number in range(count):
        image, mask = np.full((64, 64, 3), 40, np.uint8), np.zeros((64, 64), np.uint8)
        top, left = rng.integers(0, 40, 2)
        image[top : top + 24, left : left + 24], mask[top : top + 24, left : left + 24] = 220, 255
        write_png(root / "images" / f"{number}.png", image)
        write_png(root / "masks" / f"{number}.png", mask)
