"""Optimizer and learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from training.progress import Progress
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
    optimizer = torch.optim.SGD(
        list(groups.values()), momentum=config.momentum, nesterov=config.momentum > 0, fused=True
    )  # fmt: skip
    start_momentum(optimizer)
    return optimizer


def start_momentum(optimizer: torch.optim.SGD) -> None:
    """Gives every parameter a momentum of zero, from which the first step computes what it would without one.

    Fused SGD allocates the momentum in its first step without setting it. If the gradient scaler skips that step, what
    was in memory stays, and the weights become NaN in the next one.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else []:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def set_learning_rates(
    optimizer: torch.optim.Optimizer, config: OptimConfig, progress: Progress, batches: int, epochs: int
) -> float:
    """Sets the learning rate of every group for the step at a position of the run.

    Args:
        optimizer: from `build_optimizer`.
        config: names the schedule.
        progress: position of the step.
        batches: in an epoch.
        epochs: in the run.

    Returns:
        The share of the peak learning rate.
    """
    factor = rate_factor(config, progress.epoch, progress.batch, batches, epochs)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return factor


def rate_factor(config: OptimConfig, epoch: int, batch: int, batches: int, epochs: int) -> float:
    """Share of the peak learning rate at a position of the run. Depends on the position only, so it has no state.

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
    # Half a cosine ends at 0, at which the last batch would be wasted: no rate is below 1e-4 of the peak.
    return max(0.5 * (1 + math.cos(math.pi * remaining)), 1e-4)
