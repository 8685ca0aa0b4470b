"""Optimizer and learning rate of a training run."""

import math
from typing import Any

import torch
from torch import nn

from training.settings import OptimConfig


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
