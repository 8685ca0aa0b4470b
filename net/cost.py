"""What the derived network is expected to cost, as a term of the search's loss.

Source: the expectation over the softmax is ProxylessNAS' (arXiv 1812.00332, section 3.3.1): it has a gradient by the
alphas, and with it a search trades accuracy for cost. Unit: what a network costs that weighs all operations alike.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from net import operations
from net.derive import allowed
from net.genotype import Genotype, operations_of
from net.supernet import SuperNet
from net.wiring import Edge
from utils.errors import UserError

Side = tuple[int, int]
Price = Callable[[str, Side], float]


class CostError(UserError):
    """A cost term that can't be computed."""


class ExpectedCost:
    """Expected cost of the network that a supernet derives, a scalar with a gradient by the alphas.

    The expectation is over the operations that `derive` may choose, their weights renormalised. The weight of `none`
    where no edge may become `none` costs nothing and saves nothing: else the alphas would escape the cost into it.

    Args:
        network: the supernet.
        sides: (H, W) at which each edge computes, see `edge_sides`.
        price: (operation, (H, W)) -> cost of the operation there, in any unit.
    """

    def __init__(self, network: SuperNet, sides: Mapping[Edge, Side], price: Price) -> None:
        self._network = network
        rows = [[price(name, sides[edge]) for name in mixture.names] for edge, mixture in network.mixtures()]
        device = network.alphas()[0].device
        self.rows = torch.tensor(rows, device=device)  # (31, operations)
        choices = [[name in allowed(network.space, edge.kind) for name in mixture.names]
                   for edge, mixture in network.mixtures()]  # fmt: skip
        self._choices = torch.tensor(choices, device=device)  # (31, operations)
        equal = self._choices / self._choices.sum(1, keepdim=True)
        self.uniform = (equal * self.rows).sum().clamp(min=1e-9)
        self._places = {edge: number for number, (edge, _) in enumerate(network.mixtures())}

    def __call__(self) -> Tensor:
        """Expected cost, 1 for equal weights."""
        return self.total() / self.uniform

    def total(self) -> Tensor:
        """Expected cost in the unit of `price`."""
        logits = torch.stack([mixture.alpha / mixture.temperature for _, mixture in self._network.mixtures()])
        weights = torch.softmax(logits.masked_fill(~self._choices, -torch.inf), dim=1)  # (31, operations)
        return (weights * self.rows).sum()

    def of(self, genotype: Genotype, names: Sequence[str]) -> float:
        """Cost of a genotype in the unit of `price`; `names` is the order of the supernet's operations."""
        return sum(self.rows[self._places[edge], names.index(name)].item() for edge, name in operations_of(genotype))


@torch.no_grad()
def edge_sides(network: SuperNet, size: int) -> dict[Edge, Side]:
    """(H, W) at which each edge computes when the input is `size` pixels square: one pass through the encoder."""
    device = network.alphas()[0].device
    levels = list(reversed(network.encoder(torch.zeros(2, 3, size, size, device=device))))  # E5..E2
    sides = [(level.shape[-2], level.shape[-1]) for level in levels]
    return {
        edge: sides[edge.number] if edge.kind == "outer" else sides[network.sites[edge.cell - 1]]
        for edge, _ in network.mixtures()
    }


@cache
def multiply_accumulates(name: str, channels: int, side: Side) -> float:
    """Of one operation on one image, counted by PyTorch without computing: convolutions and linear layers."""
    module: nn.Module = operations.build(name, channels).to("meta").eval()  # one pixel is too little for BatchNorm
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(1, channels, *side, device="meta"))
    return counter.get_total_flops() / 2
