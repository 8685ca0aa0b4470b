"""An operation of your own: a 1x1 convolution, for genotypes and searches.

    python search.py --plugins examples/operation.py --space.operations none skip_connect conv_3x3 conv_1x1

An operation is a factory (channels, affine) -> module that maps (B, C, H, W) to (B, C, H, W). Give its BatchNorm the
`affine` that it gets: a search turns scale and shift off, so that the weights of the candidates can be compared.
"""

from torch import nn

from net.operations import operation


@operation("conv_1x1")
def conv_1x1(channels: int, affine: bool) -> nn.Module:
    """ReLU, 1x1 convolution, BatchNorm."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)
    )
