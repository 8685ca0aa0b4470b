"""Auto-MSFNet: encoder, lateral convolutions, three FusionCells, three heads; on request a block on E5.

Source: paper Figure 2 (overview); layer details from the authors' released code.
Differs from the released code: sizes follow the input and the encoder's strides, so any image size works.
The logits come out at the input's size instead of a fixed 256. The block on E5 (`net.context`) is ours, off by default.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from net import encoder as encoders
from net import operations
from net.context import build_context
from net.encoder import Encoder, check_strides
from net.fusion_cell import ConvBNReLU, FusionCell, resize
from net.genotype import Genotype, load, operations_of
from net.settings import Context, NetworkConfig
from net.wiring import CELL_STRIDES, wiring_of
from utils.errors import UserError


class NetworkError(UserError):
    """A batch that the network can't be trained on."""


class Logits(NamedTuple):
    """Saliency logits of the three outputs, finest first, each (B, 1, H, W) at the input's size."""

    p1: Tensor
    p2: Tensor
    p3: Tensor


class AutoMSFNet(nn.Module):
    """The network of the paper.

    Args:
        encoder: gives E2..E5; one of its levels must have each stride of 16, 8 and 4, where the cells are.
        genotype: operations of the three cells.
        channels: width C of laterals and cells.
        context: block on E5 after its lateral; `none` is the paper's network.

    Shapes:
        image: (B, 3, H, W), normalised RGB, any H and W of 32 or more.
        returns: `Logits`, each (B, 1, H, W).

    Raises:
        EncoderError: if the encoder has no level at a cell's stride.
    """

    def __init__(self, encoder: Encoder, genotype: Genotype, channels: int = 128, context: Context = "none") -> None:
        super().__init__()
        self.encoder = encoder
        self.genotype = genotype
        self.sites = _sites(encoder)
        self.laterals = nn.ModuleList(ConvBNReLU(width, channels) for width in reversed(encoder.channels))
        self.cells = nn.ModuleList(
            FusionCell(cell, channels, wiring_of(number, genotype.topology))
            for number, cell in enumerate(genotype.cells, 1)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in genotype.cells)
        self.context = build_context(context, channels)

    def forward(self, image: Tensor) -> Logits:
        """Logits of all three outputs; inference reads only `p1`.

        Raises:
            NetworkError: in training, if the coarsest level has one pixel of one image, whose variance is undefined.
        """
        size = (image.shape[-2], image.shape[-1])
        if self.training:
            _check_batch(image, self.encoder.strides[-1])
        levels = [lateral(x) for lateral, x in zip(self.laterals, reversed(self.encoder(image)), strict=True)]
        levels[0] = self.context(levels[0])  # E5
        # In float32: a bfloat16 logit near 8 is wrong by up to 1/64, which shows in the resized map.
        outputs = [
            resize(head(state).float(), size) for head, state in zip(self.heads, self.states(levels), strict=True)
        ]  # each (B, 1, H, W)
        return Logits(*reversed(outputs))

    def states(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the three cells, coarsest first, each (B, C, H / stride, W / stride).

        Args:
            levels: E5..E2 after the laterals and the block on E5, each (B, C, h_i, w_i).
        """
        states: list[Tensor] = []
        for cell, site in zip(self.cells, self.sites, strict=True):
            height, width = levels[site].shape[-2:]
            states.append(cell(levels, (height, width), states[-1] if states else None))
        return states


def build_network(config: NetworkConfig, encoder_weights: str | Path | None = None) -> AutoMSFNet:
    """Builds the network that a config describes.

    Args:
        config: encoder, genotype, width, context.
        encoder_weights: see `net.encoder.build`; the rest starts from `initialise`.

    Raises:
        EncoderError, GenotypeError: if the config names what is not there.
    """
    genotype = load(config.genotype)  # first, with its operations: a mistake shows before weights are downloaded
    operations.check((name for _, name in operations_of(genotype)), config.channels)
    network = AutoMSFNet(encoders.build(config.encoder, encoder_weights), genotype, config.channels, config.context)
    initialise(network)
    return network


def initialise(network: AutoMSFNet) -> None:
    """Kaiming normal (fan in, ReLU) for every convolution and linear layer outside the encoder, zero biases.

    Source: F3Net's convention, which the released code calls by name; 7x7 attention and heads included. The block on E5
    keeps its own start, the identity.
    """
    for part in (network.laterals, network.cells, network.heads):
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _check_batch(image: Tensor, stride: int) -> None:
    count, _, height, width = image.shape
    if count == 1 and max(height, width) <= stride:
        raise NetworkError(
            f"BatchNorm needs more than one value a channel, but the coarsest level of one image of {height} x {width} "
            f"pixels is a single pixel (stride {stride}). Raise the batch size or the size of the images."
        )


def _sites(encoder: Encoder) -> tuple[int, ...]:
    """For each cell, the index among E5..E2 of the level whose size it takes."""
    check_strides(type(encoder).__name__, encoder.strides)
    strides = list(reversed(encoder.strides))
    return tuple(strides.index(stride) for stride in CELL_STRIDES)
