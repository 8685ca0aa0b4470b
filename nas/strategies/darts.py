"""What the strategy `darts` adds to the loop of search.py: its warm-up by single paths, and its account.

While the alphas rest, the mixture trains every candidate with the same small weight, so kernels hardly move and the
alphas then compare untrained candidates. A single path trains one candidate an edge at full weight, each equally often.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas.genotype_space import GenotypeSpace
from nas.settings import SearchConfig, SearchError
from nas.strategies.account import PASSES, Account
from nas.strategies.single_path import latin_path, single_path
from nas.watch import EpochRecord
from net.genotype import Genotype
from net.settings import alphas_rest
from net.supernet import SuperNet
from training.processes import Processes

if TYPE_CHECKING:
    from nas.search_state import Search


def check_warmup(config: SearchConfig, processes: Processes) -> None:
    """Refuses a warm-up by single paths with several processes, which average the gradients of all weights.

    Raises:
        SearchError: in that case.
    """
    if config.architect.warmup_paths == "single" and processes.world > 1:
        raise SearchError(
            f"architect.warmup_paths: single runs in one process, not in {processes.world}. Start one, or use mixture."
        )


@contextmanager
def warmup_path(search: "Search") -> Iterator[None]:
    """Inside, the supernet is the single path of the present step, if it is a step of such a warm-up."""
    config, progress = search.config, search.progress
    if config.architect.warmup_paths == "mixture" or not alphas_rest(config.architect, progress.epoch, config.epochs):
        yield
        return
    options = [mixture.names for _, mixture in search.network.mixtures()]
    with single_path(search.network, latin_path(options, config.seed, progress.step)):
        yield


class KernelMovement:
    """How far the kernels of candidates and laterals have moved from their start, relative to it.

    A warm-up is long enough when the candidates have moved as the laterals have.

    Args:
        network: the supernet at its start.
    """

    def __init__(self, network: SuperNet) -> None:
        self._start = {name: kernel.detach().clone() for name, kernel in _kernels(network)}

    def measure(self, network: SuperNet) -> dict[str, float]:
        """Norm of the change over the norm of the start, by group, as the log names it."""
        sums: dict[str, list[float]] = {"candidates": [0.0, 0.0], "laterals": [0.0, 0.0]}
        for name, kernel in _kernels(network):
            group, start = sums["laterals" if name.startswith("laterals.") else "candidates"], self._start[name]
            group[0] += (kernel.detach() - start).square().sum().item()
            group[1] += start.square().sum().item()
        return {f"search/moved_{name}": (moved / start) ** 0.5 for name, (moved, start) in sums.items() if start}

    def state_dict(self) -> dict[str, Tensor]:
        """The kernels at the start."""
        return dict(self._start)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> None:
        """Puts them back."""
        for name, kernel in state_dict.items():
            self._start[name].copy_(kernel)


def _kernels(network: SuperNet) -> Iterator[tuple[str, Tensor]]:
    """Convolution kernels of the laterals and of all candidates, by name."""
    for name, weight in network.named_parameters():
        if weight.ndim == 4 and (name.startswith("laterals.") or ".candidates." in name):
            yield name, weight


def within_cost(config: SearchConfig, record: EpochRecord) -> Genotype:
    """The genotype of an epoch, or that of the greatest product of weights that meets `cost.limit` and `cost.target`.

    Args:
        config: of the search.
        record: of the epoch whose cells the search gives.

    Raises:
        SearchError: if no genotype meets them.
    """
    if not (config.cost.limit or config.cost.target):
        return record.genotype
    choices = GenotypeSpace(config.space, config.data.size, config.cost)
    weights = [dict(zip(config.space.operations, row, strict=True)) for row in record.probabilities]
    values = [{name: math.log(max(row[name], 1e-30)) for name in names}
              for row, names in zip(weights, choices.names, strict=True)]  # fmt: skip
    chosen = choices.best(values)
    kept = [round(row[name], 4) for row, name in zip(weights, chosen, strict=True)]
    return choices.genotype(chosen, {"weights": kept, "macs_of_edges": choices.cost_of(chosen)})


@torch.no_grad()
def supernet_macs(network: SuperNet, size: int) -> float:
    """Multiply-accumulates of one forward pass of the whole supernet on one image, as PyTorch counts them."""
    images = torch.zeros(2, 3, size, size, device=network.alphas()[0].device)  # statistics of a batch need two
    with FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 4


def spend(account: Account, config: SearchConfig, macs: float, alphas_moved: bool, seconds: float) -> None:
    """Adds one bilevel step to the account.

    Args:
        account: of the search.
        config: for the size of a batch.
        macs: of the supernet on one image; a single path of the warm-up is counted as the whole mixture.
        alphas_moved: whether the alphas took a step as well.
        seconds: that it took.
    """
    account.supernet_steps += 1 + alphas_moved
    account.see(config.batch, macs, PASSES * (1 + alphas_moved))
    if alphas_moved and config.architect.order == "second":
        account.see(config.batch, macs, PASSES * 3)  # the virtual step, and both sides of the finite difference
    account.minutes += seconds / 60
