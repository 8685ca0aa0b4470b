"""Single paths through a supernet: one candidate on each edge, the others untouched.

Source: Guo et al., "Single path one-shot neural architecture search", arXiv 1904.00420; strict fairness: Chu et al.,
"FairNAS", arXiv 1907.01845.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from net.supernet import SuperNet


class PartialEdge(nn.Module):
    """A candidate for the first `width` channels; the others bypass it and go first: (B, C, H, W) -> the same."""

    def __init__(self, candidate: nn.Module, width: int) -> None:
        super().__init__()
        self.candidate, self.width = candidate, width

    def forward(self, x: Tensor) -> Tensor:
        """The candidate's output, beside what bypasses it."""
        if self.width == x.shape[1]:
            return self.candidate(x)
        part = self.candidate(x[:, : self.width].contiguous(memory_format=torch.channels_last))
        return torch.cat([x[:, self.width :], part], dim=1)


@contextmanager
def single_path(network: SuperNet, names: Sequence[str]) -> Iterator[None]:
    """Inside, each edge of the supernet is one of its candidates with weight 1; parameters stay the same objects.

    With partial channels the others bypass the candidate, as in the mixture.

    Args:
        network: the supernet; its `state_dict` has other keys inside.
        names: of the candidates, in the order of `SuperNet.mixtures`.
    """
    mixtures = [mixture for _, mixture in network.mixtures()]
    chosen = iter(
        PartialEdge(mixture.candidates[mixture.names.index(name)], mixture.width)
        for mixture, name in zip(mixtures, names, strict=True)
    )
    before = [(cell, kind, getattr(cell, kind)) for cell in network.cells for kind in ("outer", "inner")]
    try:
        for cell, kind, edges in before:
            setattr(cell, kind, nn.ModuleList(next(chosen) for _ in edges))
        yield
    finally:
        for cell, kind, edges in before:
            setattr(cell, kind, edges)


def latin_path(options: Sequence[Sequence[str]], seed: int, step: int) -> tuple[str, ...]:
    """The candidates of a step: on each edge every candidate occurs once in a block of as many steps.

    A function of only seed and step, so that a resumed search draws the same.

    Args:
        options: candidates of each edge.
        seed: of the search.
        step: counted from 0.
    """
    names = []
    for edge, candidates in enumerate(options):
        block, place = divmod(step, len(candidates))
        order = np.random.default_rng([seed, edge, block]).permutation(len(candidates))
        names.append(candidates[int(order[place])])
    return tuple(names)
