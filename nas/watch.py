"""Measures of a search after every epoch: entropy, shares, agreement, cost, and the signs of a collapse.

Sources: the collapse into skip connections is described in DARTS- (arXiv 2009.01027) and RobustDARTS
(arXiv 1909.09656). What is measured here, and the thresholds, are our choice.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nas.settings import WatchConfig
from net.cost import ExpectedCost
from net.derive import derive, discretise
from net.genotype import Genotype, operations_of
from net.settings import SpaceConfig
from net.supernet import SuperNet


@dataclass(frozen=True)
class EpochRecord:
    """A search after one epoch.

    Attributes:
        epoch: counted from 1.
        alphas_rest: whether it belonged to the warm-up.
        temperature: of the softmax in it.
        weight_loss: mean loss on the half that trains the weights.
        alpha_loss: mean loss on the other half; NaN in the warm-up, which does not compute it.
        entropy: mean over the edges of the entropy of the weights, in nats, at that temperature.
        alpha_entropy: the same at temperature 1: what the alphas themselves have decided.
        skip: share of derived edges that are `skip_connect`.
        attention: share of derived edges that are an attention.
        agreement: share of derived edges that are as after the epoch before; NaN for the first.
        expected_gmac: expected multiply-accumulates of the derived edges on one image, in billions.
        derived_gmac: those of the derived edges.
        mixed_loss, derived_loss: loss of the mixture, and of the derived edges with the mixture's weights, on the same
            few batches; NaN if not measured. Their difference is the discretisation gap, see `discretisation_gap`.
        probabilities: (31, operations): the weights.
        genotype: derived.
    """

    epoch: int
    alphas_rest: bool
    temperature: float
    weight_loss: float
    alpha_loss: float
    entropy: float
    alpha_entropy: float
    skip: float
    attention: float
    agreement: float
    expected_gmac: float
    derived_gmac: float
    mixed_loss: float
    derived_loss: float
    probabilities: list[list[float]]
    genotype: Genotype

    def scalars(self) -> dict[str, float]:
        """What goes to the log, by name."""
        kept = {key: value for key, value in vars(self).items() if isinstance(value, float) and math.isfinite(value)}
        return {f"search/{key}": value for key, value in kept.items()}

    def to_plain(self) -> dict[str, Any]:
        """The record as a checkpoint holds it: the genotype is JSON text."""
        return {**vars(self), "genotype": self.genotype.to_json()}

    @classmethod
    def from_plain(cls, record: Mapping[str, Any]) -> "EpochRecord":
        """The record that `to_plain` wrote."""
        return cls(**{**record, "genotype": Genotype.from_json(record["genotype"], "history of the search")})


@dataclass(frozen=True)
class EpochProgress:
    """The part of an epoch's record that the search loop measures; see `EpochRecord`."""

    epoch: int
    alphas_rest: bool
    temperature: float
    weight_loss: float
    alpha_loss: float


def measure_epoch(
    network: SuperNet,
    space: SpaceConfig,
    macs: ExpectedCost,
    loop: EpochProgress,
    losses: tuple[float, float],
    before: EpochRecord | None,
) -> EpochRecord:
    """Measures a search after an epoch.

    Args:
        network: the supernet.
        space: what it was built from.
        macs: expected multiply-accumulates, with `multiply_accumulates` as price.
        loop: from the loop.
        losses: of the mixture and of the derived edges, see `discretisation_gap`.
        before: record of the epoch before.
    """
    genotype = derive(network, space)
    names = [name for _, name in operations_of(genotype)]
    probabilities = network.probabilities().detach().cpu()  # (31, operations)
    alphas = torch.stack([alpha.detach().cpu() for alpha in network.alphas()])
    return EpochRecord(
        **asdict(loop),
        entropy=mean_entropy(probabilities),
        alpha_entropy=mean_entropy(torch.softmax(alphas, dim=1)),
        skip=share(names, lambda name: name == "skip_connect"),
        attention=share(names, lambda name: "attention" in name.lower()),
        agreement=math.nan if before is None else agreement(genotype, before.genotype),
        expected_gmac=macs.total().item() / 1e9,
        derived_gmac=macs.of(genotype, space.operations) / 1e9,
        mixed_loss=losses[0],
        derived_loss=losses[1],
        probabilities=probabilities.tolist(),
        genotype=genotype,
    )


def mean_entropy(probabilities: Tensor) -> float:
    """Mean over the rows of the entropy in nats; (edges, operations) -> number in [0, log of operations]."""
    return torch.special.entr(probabilities).sum(1).mean().item()


def share(names: Sequence[str], wanted: Callable[[str], bool]) -> float:
    """Share of the names that are wanted."""
    return sum(map(wanted, names)) / len(names)


def agreement(one: Genotype, other: Genotype) -> float:
    """Share of the edges that have the same operation in both."""
    pairs = zip(operations_of(one), operations_of(other), strict=True)
    return share(["same" if first == second else "other" for first, second in pairs], lambda name: name == "same")


def collapse(record: EpochRecord, config: WatchConfig, epochs: int) -> list[str]:
    """Signs of a collapse after an epoch, each a sentence with the cure; usually none."""
    signs: list[str] = []
    if record.alphas_rest:
        return signs
    if record.skip > config.skip:
        signs.append(
            f"{record.skip:.0%} of the derived edges are skip_connect (watch.skip {config.skip:.0%}). Search shorter, "
            f"or set architect.auxiliary to 1 (DARTS-)."
        )
    greatest = math.log(max(len(record.probabilities[0]), 2))
    if record.entropy < config.entropy * greatest and record.epoch < 0.5 * epochs:
        signs.append(
            f"the mean entropy is {record.entropy:.3f} of {greatest:.3f} before half of the search (watch.entropy "
            f"{config.entropy:g}): edges are decided before their operations are trained. Lower architect.lr."
        )
    return signs


def chosen_record(history: Sequence[EpochRecord], stopped: bool) -> EpochRecord:
    """The epoch whose cells a search gives: the last; where a collapse ended it, the one before if its alphas moved."""
    if stopped and len(history) > 1 and not history[-2].alphas_rest:
        return history[-2]
    return history[-1]


@torch.no_grad()
def discretisation_gap(
    network: SuperNet, space: SpaceConfig, batches: Sequence[Any], loss: Callable[[Any], Tensor]
) -> tuple[float, float]:
    """Loss of the mixture, and of only the derived edges with the same kernels, on the same batches.

    The auxiliary skip of DARTS- is off in both, since no derived network has it. With partial channels K > 1 the
    candidates have kernels for C / K channels only. The other channels bypass every edge in both losses, so their
    difference is the gap of the mixed share of the channels, not that of a network of derived cells.

    Args:
        network: the supernet; its alphas, temperature and auxiliary skip are as before afterwards.
        space: what it was built from.
        batches: to measure on; none gives NaN for both.
        loss: (batch) -> scalar.
    """
    if not batches:
        return math.nan, math.nan
    kept = [alpha.detach().clone() for alpha in network.alphas()]
    _, first = next(network.mixtures())
    temperature, auxiliary = first.temperature, first.auxiliary
    network.set_relaxation(temperature, 0.0)
    try:
        mixed = torch.stack([loss(batch) for batch in batches]).mean().item()
        discretise(network, derive(network, space))
        derived = torch.stack([loss(batch) for batch in batches]).mean().item()
    finally:
        network.set_relaxation(temperature, auxiliary)
        for alpha, value in zip(network.alphas(), kept, strict=True):
            alpha.copy_(value)
    return mixed, derived
