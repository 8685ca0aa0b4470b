"""SuperNet: Auto-MSFNet with a mixture of all candidates on each of its 12 outer and 19 inner edges.

Source: the relaxation is DARTS' (arXiv 1806.09055); edges and cells are the paper's, Figures 2 and 7. The authors'
search is not public; this one is our reading. The network of a search has no block of global context (`net.context`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet, initialise
from net.batch_norm import BatchNorm, use_batch_statistics
from net.encoder import Encoder
from net.fusion_cell import FusionCell
from net.genotype import Genotype
from net.joined import JoinedMixtures, one_output
from net.mixture import MixedOp, check_space
from net.settings import SpaceConfig, Topology
from net.wiring import LEVELS, Edge, edges


class SuperNet(AutoMSFNet):
    """The network with every edge a `MixedOp`; shapes are those of `AutoMSFNet`.

    BatchNorm outside the encoder uses the statistics of the batch, so no forward pass changes any state.

    Args:
        encoder: as for `AutoMSFNet`.
        space: what is searched; its `encoder` is not used.
        frozen_norm: whether the encoder's BatchNorm keeps its running statistics, as is usual with pretrained weights;
            otherwise it uses those of the batch.

    Attributes:
        space: as given.
        joined: whether the edges are computed together (`net.joined`), which suits devices that wait for launches.
        genotype: a placeholder, `none` on each edge. `derive` gives the searched one.
    """

    def __init__(self, encoder: Encoder, space: SpaceConfig, frozen_norm: bool = True) -> None:
        check_space(space.operations, space.channels, space.partial)
        super().__init__(encoder, _nothing(space.topology), space.channels)
        self.space, self.frozen_norm = space, frozen_norm
        for cell in self.cells:
            for kind in ("outer", "inner"):
                count = len(getattr(cell, kind))
                edges = (MixedOp(space.operations, space.channels, space.partial) for _ in range(count))
                setattr(cell, kind, nn.ModuleList(edges))
        self.joined = False
        made = dict(self.mixtures())
        outer = [[one for edge, one in made.items() if edge[1:] == ("outer", level)] for level in range(len(LEVELS))]
        self._edges = JoinedMixtures([*outer, *([one] for edge, one in made.items() if edge.kind == "inner")])
        self._places: Tensor
        self.register_buffer("_places", torch.tensor(self._edges.scale_places()), persistent=False)
        for part in (self.laterals, self.cells, *([] if frozen_norm else [self.encoder])):
            use_batch_statistics(part)
        self.train()

    def train(self, mode: bool = True) -> "SuperNet":
        """As `nn.Module.train`, but a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            self.encoder.eval()
        return self

    def states(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """See `AutoMSFNet.states`."""
        if not self.joined or not all(isinstance(edge, MixedOp) for _, edge in self.mixtures()):  # a single path
            return super().states(levels)
        runs = iter(self._edges.prepare(self._places))
        outer = [run(level) for run, level in zip(islice(runs, len(LEVELS)), levels, strict=True)]
        states: list[Tensor] = []
        cells = cast(Sequence[FusionCell], self.cells)
        for cell, site, own in zip(cells, self.sites, zip(*outer, strict=True), strict=True):
            height, width = levels[site].shape[-2:]
            inner = (one_output(run) for run in islice(runs, cell.wiring.inner_edges))
            states.append(cell.combine(own, inner, (height, width), states[-1] if states else None))
        return states

    def mixtures(self) -> Iterator[tuple[Edge, MixedOp]]:
        """All 31 edges: for each cell the outer ones, then the inner ones."""
        for edge in edges():
            yield edge, getattr(self.cells[edge.cell - 1], edge.kind)[edge.number]

    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters, one tensor an edge, in the order of `mixtures`."""
        return [mixture.alpha for _, mixture in self.mixtures()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    def probabilities(self) -> Tensor:
        """(31, number of operations): softmax of the alphas at the present temperature, one row an edge."""
        return torch.stack([mixture.weights() for _, mixture in self.mixtures()])

    def set_relaxation(self, temperature: float, auxiliary: float) -> None:
        """Sets the softmax's temperature and the factor of the auxiliary skip on every edge."""
        for _, mixture in self.mixtures():
            mixture.temperature, mixture.auxiliary = temperature, auxiliary

    @contextmanager
    def sharing(self, wanted: bool = True) -> Iterator[None]:
        """Inside, BatchNorm is over the images of all processes if wanted: all must call the supernet alike."""
        parts = [part for part in self.modules() if isinstance(part, MixedOp | BatchNorm)] if wanted else []
        try:
            for part in parts:
                part.shared = True
            yield
        finally:
            for part in parts:
                part.shared = False


def build_supernet(space: SpaceConfig, encoder_weights: str | None = None, frozen_norm: bool | None = None) -> SuperNet:
    """Builds and initialises the supernet of a search space.

    Args:
        space: what is searched.
        encoder_weights: see `net.encoder.build`; with weights the encoder's BatchNorm is frozen, without it learns.
        frozen_norm: states that instead, for a supernet whose weights will be loaded from a checkpoint.

    Raises:
        SpaceError, EncoderError: if the space is empty, or an operation or the encoder is not available.
    """
    check_space(space.operations, space.channels, space.partial)
    frozen = encoder_weights is not None if frozen_norm is None else frozen_norm
    network = SuperNet(encoders.build(space.encoder, encoder_weights), space, frozen)
    initialise(network)
    return network


def _nothing(topology: Topology) -> Genotype:
    """A genotype that connects nothing and costs nothing."""
    return Genotype.choose(lambda edge: "none", topology)
