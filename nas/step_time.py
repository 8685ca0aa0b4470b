"""Time and memory of steps on noise, on the device at hand: for plans and for the acceptance program.

Data loading is not part of it: what is measured is the network, the loss and the optimizer.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.settings import SearchConfig
from net.architect import Architect, only
from net.auto_msfnet import build_network
from net.cpu_kernels import accelerate
from net.losses import saliency_loss
from net.supernet import build_supernet
from training.optim import build_optimizer
from training.settings import TrainConfig
from training.throughput import peak_memory
from utils.device import autocast

Step = Callable[[], None]


class StepTime(NamedTuple):
    """Seconds of a step, images a second, and peak memory in MiB."""

    seconds: float
    images_per_s: float
    memory_mib: float


def training_step(config: TrainConfig, device: torch.device, precision: str, compile: bool = False) -> Step:
    """One step of train.py on noise, from random weights: forward, backward, clipping, optimizer."""
    network: Any = build_network(config.network).train()
    network = network.to(device, memory_format=torch.channels_last)
    if device.type == "cpu":
        accelerate(network)
    optimizer = build_optimizer(network, config.optim)
    image, mask = noise(config.batch, config.data.size, device)
    model: Any = torch.compile(network) if compile else network

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            logits = model(image)
        saliency_loss(logits, mask, config.loss).total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip or math.inf)
        optimizer.step()

    return step


def search_step(config: SearchConfig, device: torch.device, precision: str, joined: bool | None = None) -> Step:
    """One bilevel step of search.py on noise, from random weights.

    Args:
        config: of the search.
        device: where it computes.
        precision: in what.
        joined: whether the edges are computed together; None as search.py does on that device.
    """
    network = build_supernet(config.space).to(device)
    network.joined = device.type != "cpu" if joined is None else joined
    if device.type == "cpu":
        accelerate(network)
    with only(network, network.weights()):
        optimizer = build_optimizer(network, config.optim)
    batch = noise(config.batch, config.data.size, device)

    def loss(images: tuple[Tensor, Tensor]) -> Tensor:
        with autocast(device, precision):
            logits = network(images[0])
        return saliency_loss(logits, images[1], config.loss).total

    architect = Architect(network, optimizer, config.architect, loss, clip=config.optim.clip)

    def step() -> None:
        architect.step(batch, batch)
        with only(network, network.weights()):
            optimizer.zero_grad(set_to_none=True)
            loss(batch).backward()
        nn.utils.clip_grad_norm_(network.weights(), config.optim.clip or math.inf)
        optimizer.step()

    return step


def noise(count: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S), channels last, and masks (B, 1, S, S); always the same."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 3, side, side, generator=generator)
    mask = (torch.rand(count, 1, side, side, generator=generator) > 0.5).float()
    return image.to(device, memory_format=torch.channels_last), mask.to(device)


def measured(step: Step, images: int, device: torch.device, steps: int = 5, warm: int = 1) -> StepTime:
    """Mean time of a step.

    Args:
        step: from `training_step` or `search_step`.
        images: that it computes.
        device: where it computes.
        steps: that are timed.
        warm: that are not, before them.
    """
    for _ in range(warm):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    _wait(device)
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    seconds = (time.perf_counter() - begin) / steps
    return StepTime(seconds, images / seconds, peak_memory(device))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
