"""Optimizer and learning rate of a training run."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from utils.errors import UserError


class OptimError(UserError):
    """Optimizer settings that can't work."""


@dataclass(frozen=True)
class OptimConfig:
    """How weights move. Defaults are F3Net's recipe (its public code), which LDF shares.

    Attributes:
        name: `sgd` (nesterov) or `adamw`.
        lr: peak rate of everything but the encoder.
        encoder_lr: peak rate of the encoder; a tenth in F3Net.
        weight_decay: of all parameters, or of matrices alone, see `decay_vectors`.
        decay_vectors: whether biases and BatchNorm parameters decay as well; they do in F3Net.
        momentum: of sgd.
        schedule: `triangular` (F3Net: up to the middle of the run, then down, changed every epoch) or
            `cosine` (linear warm-up, then half a cosine to 0, changed every step).
        warmup: share of the run that `cosine` warms up.
        clip: greatest norm of the gradient; 0 turns clipping off.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    encoder_lr: float = 0.005
    weight_decay: float = 5e-4
    decay_vectors: bool = True
    momentum: float = 0.9
    schedule: Literal["triangular", "cosine"] = "triangular"
    warmup: float = 0.05
    clip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "encoder_lr"):
            if getattr(self, name) <= 0:
                raise OptimError(f"optim.{name}: {getattr(self, name)}, expected a rate above 0.")
        for name, top in (("weight_decay", math.inf), ("momentum", 1), ("warmup", 1), ("clip", math.inf)):
            if not 0 <= getattr(self, name) < top:
                raise OptimError(f"optim.{name}: {getattr(self, name)}, expected 0 or more and less than {top}.")


def build_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """An optimizer with up to four groups: encoder or not, decaying or not. Each keeps its `peak` rate."""
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder, decays = name.startswith("encoder."), config.decay_vectors or parameter.ndim > 1
        rate = config.encoder_lr if encoder else config.lr
        decay = config.weight_decay if decays else 0.0
        group = {"params": [], "lr": rate, "peak": rate, "weight_decay": decay, "encoder": encoder}
        groups.setdefault((encoder, decays), group)["params"].append(parameter)
    if config.name == "adamw":
        return torch.optim.AdamW(list(groups.values()), fused=True)
    return torch.optim.SGD(list(groups.values()), momentum=config.momentum, nesterov=config.momentum > 0, fused=True)


def rate_factor(config: OptimConfig, epoch: int, batch: int, batches: int, epochs: int) -> float:
    """Share of the peak learning rate at a place of the run. A function of the place alone, so resuming needs no state.

    Args:
        config: names the schedule.
        epoch: from 0.
        batch: within the epoch, from 0.
        batches: in an epoch.
        epochs: in the run.

    Returns:
        A number in (0, 1].
    """
    if config.schedule == "triangular":
        return 1 - abs((epoch + 1) / (epochs + 1) * 2 - 1)
    done = (epoch * batches + batch + 1) / (epochs * batches)
    if done < config.warmup:
        return done / config.warmup
    remaining = (done - config.warmup) / (1 - config.warmup)
    # The last step would have the rate 0; it takes what the step before would, so no batch is wasted.
    return max(0.5 * (1 + math.cos(math.pi * remaining)), 1e-4)
