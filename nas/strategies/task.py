"""What every strategy but `darts` works with, and the interface that it implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data.datasets import Batch, SaliencyDataset, SampleKey, collate
from data.layouts import Pair
from data.transforms import EvalTransform
from nas.genotype_space import GenotypeSpace
from nas.halves import Halves
from nas.settings import SearchConfig
from nas.strategies.account import Account
from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet, initialise
from net.losses import iou_loss, saliency_loss
from training.optim import build_optimizer, rate_factor
from training.settings import OptimConfig
from utils.device import autocast

MOST_AT_ONCE = 32
"""Images of one forward pass when a network is scored; with batch statistics it is part of the definition."""


class Scored(NamedTuple):
    """A genotype that was scored: operations in the order of `GenotypeSpace.edges`, score, how it came about."""

    names: tuple[str, ...]
    score: float
    origin: str


class Judged(NamedTuple):
    """A genotype that was asked for: its own score, and what the model of the scores of others predicts for it."""

    score: float
    predicted: float


@dataclass(frozen=True)
class Outcome:
    """What a strategy found.

    Attributes:
        names: operations of the chosen genotype.
        reason: a sentence with the reason of the choice.
        scored: all genotypes that were scored, in their order.
        measure: what their score is.
        worth: for each edge, operation -> estimated worth; empty where the strategy has none.
        also: path of a genotype that was asked for -> what is said of it.
    """

    names: tuple[str, ...]
    reason: str
    scored: Sequence[Scored]
    measure: str
    worth: Sequence[Mapping[str, float]] = ()
    also: Mapping[str, Judged] = field(default_factory=dict)


class UnitStoppedError(Exception):
    """A request to stop came within a unit of work. The unit is dropped; a resumed search begins it again."""


@dataclass(frozen=True)
class Task:
    """The parts of a search that all strategies share.

    Attributes:
        config: of the search.
        device: where it computes.
        precision: of autocast.
        halves: images for the weights, and for scoring.
        judged: pairs of the second half.
        choices: all genotypes with their cost.
        account: what has been spent.
        base_macs: multiply-accumulates of the network without its edges, on one image.
        stopped: whether the search was asked to stop; a unit that takes minutes asks, and raises `UnitStoppedError`.
    """

    config: SearchConfig
    device: torch.device
    precision: str
    halves: Halves
    judged: Sequence[Pair]
    choices: GenotypeSpace
    account: Account
    base_macs: float
    stopped: Callable[[], bool] = lambda: False

    def macs(self, names: Sequence[str]) -> float:
        """Multiply-accumulates of the whole network with these operations on one image."""
        return self.base_macs + self.choices.cost_of(names)

    def rng(self, *place: int) -> np.random.Generator:
        """A generator that depends only on the search's seed and a place of the strategy."""
        return np.random.default_rng([self.config.seed, *place])

    def draw(self, *place: int) -> tuple[str, ...]:
        """Operations of a random genotype that meets limit and target."""
        return self.choices.draw(self.rng(*place))

    def network(self, names: Sequence[str]) -> AutoMSFNet:
        """A fresh network with these operations, its weights drawn from PyTorch's generator."""
        network = AutoMSFNet(self.encoder(), self.choices.genotype(names), self.config.space.channels)
        initialise(network)
        return network.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def encoder(self) -> encoders.Encoder:
        """A fresh encoder with the weights that the settings name."""
        return encoders.build(self.config.space.encoder, self.encoder_weights)

    @property
    def encoder_weights(self) -> str | None:
        """As `net.encoder.build` takes them."""
        return None if self.config.encoder_weights == "none" else self.config.encoder_weights

    def images(self, count: int) -> Batch:
        """The first images of the scoring half, not augmented; all for 0. (N, 3, S, S), on the device."""
        chosen = list(self.judged[:count] if count else self.judged)
        dataset = SaliencyDataset(chosen, EvalTransform(), self.config.seed)
        size = self.config.data.size
        return self.to_device(collate([dataset[SampleKey(0, index, size)] for index in range(len(chosen))]))

    def to_device(self, batch: Batch) -> Batch:
        """The batch where the network computes."""
        image = batch.image.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return Batch(image, batch.mask.to(self.device, non_blocking=True), batch.index)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The search's loss of a network on a batch."""
        with autocast(self.device, self.precision):
            logits = network(batch.image)
        return saliency_loss(logits, batch.mask, self.config.loss).total


class Strategy(ABC):
    """A way of choosing cells, as units of work between which it can be stopped.

    Attributes:
        computes: whether it runs networks, so that their precision is worth a measurement.
        total: number of units; may grow.
        done: units that are finished.
    """

    computes: ClassVar[bool] = True
    total: int
    done: int

    @abstractmethod
    def advance(self) -> Mapping[str, float | Tensor]:
        """Does the next unit; returns numbers for the log, those of a GPU as scalars that the host has not read."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """What was found, once all units are done."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that a resumed strategy needs to give the same to the bit, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""


class ScoringStrategy(Strategy):
    """A strategy whose state is the list of the genotypes that it has scored, one a unit."""

    def __init__(self, task: Task, total: int) -> None:
        self.task, self.total = task, total
        self.scored: list[Scored] = []

    @property
    def done(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Genotypes that are scored."""
        return len(self.scored)

    def add(self, names: Sequence[str], score: float, origin: str) -> dict[str, float]:
        """Notes a score; returns it for the log with the genotype's cost."""
        self.scored.append(Scored(tuple(names), score, origin))
        self.task.account.scored += 1
        return {"search/score": score, "search/gmac": self.task.macs(names) / 1e9}

    def state_dict(self) -> dict[str, Any]:
        """The scored genotypes."""
        return {"scored": [[list(one.names), one.score, one.origin] for one in self.scored]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts them back."""
        self.scored = [Scored(tuple(names), score, origin) for names, score, origin in state["scored"]]


@torch.no_grad()
def p1_iou(task: Task, network: nn.Module, images: Batch) -> float:
    """Mean soft IoU of P1 over images, in the mode that the network is in.

    Args:
        task: for device and precision.
        network: maps (B, 3, S, S) to `Logits`.
        images: (N, 3, S, S); with batch statistics the result depends on the parts of `MOST_AT_ONCE` images.

    Returns:
        A number in (0, 1], 1 - `net.losses.iou_loss`.
    """
    parts: list[Tensor] = []
    count = len(images.index)
    for start in range(0, count, MOST_AT_ONCE):
        part = slice(start, start + MOST_AT_ONCE)
        with autocast(task.device, task.precision):
            logits = network(images.image[part])
        share = len(images.index[part]) / count
        parts.append(share * (1 - iou_loss(torch.sigmoid(logits.p1.float()), images.mask[part])))
    return torch.stack(parts).sum().item()  # the host waits once


@dataclass(frozen=True)
class Recipe:
    """AdamW with a cosine schedule over a fixed number of steps, and clipping at 5."""

    steps: int
    lr: float
    encoder_lr: float
    weight_decay: float

    @property
    def optim(self) -> OptimConfig:
        """As `training.optim` takes it."""
        return OptimConfig(
            name="adamw", lr=self.lr, encoder_lr=self.encoder_lr, weight_decay=self.weight_decay, decay_vectors=False,
            schedule="cosine", warmup=0.05, clip=5.0,
        )  # fmt: skip

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the parameters that ask for a gradient."""
        return build_optimizer(network, self.optim)

    def step(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor, step: int) -> Tensor:
        """One step by the gradient of the loss; returns the loss on its device, so that the host need not wait.

        Args:
            optimizer: from `optimizer`.
            network: whose gradient is clipped.
            loss: scalar with a graph.
            step: counted from 0.
        """
        factor = rate_factor(self.optim, 0, step, self.steps, 1)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer.zero_grad(set_to_none=True)  # what takes no part in this step does not move
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.optim.clip)
        optimizer.step()
        return loss.detach()


@torch.no_grad()
def base_macs(config: SearchConfig, choices: GenotypeSpace) -> float:
    """Multiply-accumulates of encoder, laterals, fusions and heads on one image: a network whose edges are `none`."""
    nothing = choices.genotype(["none"] * len(choices.edges))
    network = AutoMSFNet(encoders.build(config.space.encoder), nothing, config.space.channels).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, config.data.size, config.data.size))
    return counter.get_total_flops() / 2
