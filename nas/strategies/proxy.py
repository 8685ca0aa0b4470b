"""Strategy `proxy`: the best of n random genotypes by a score of the untrained network.

Sources: synflow: Tanaka et al., arXiv 2006.05467. NASWOT: Mellor et al., arXiv 2006.04647, equation 2. Gradient norm:
Abdelfattah et al., arXiv 2101.08134. Parameters and multiply-adds are the scores that all others should beat.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.datasets import Batch
from nas.settings import ProxyName
from nas.strategies.account import PASSES
from nas.strategies.task import Outcome, ScoringStrategy, Task
from net.auto_msfnet import AutoMSFNet
from training.random_state import seed_everything

Score = Callable[[Task, AutoMSFNet, Batch, tuple[str, ...]], float]


class ProxyStrategy(ScoringStrategy):
    """Scores `proxy.count` random genotypes and takes the best. All networks start from the same seed."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, task.config.proxy.count)
        self.score: ProxyName = task.config.proxy.score
        self.images = task.images(task.config.batch)

    def advance(self) -> dict[str, float]:
        """Scores the next genotype."""
        names = self.task.draw(self.done)
        seed_everything(self.task.config.seed)
        value = SCORES[self.score](self.task, self.task.network(names).train(), self.images, names)
        self.task.account.see(len(self.images.index), self.task.macs(names), PASSES)
        return self.add(names, value, "random")

    def outcome(self) -> Outcome:
        """The best, the first among equals."""
        best = max(self.scored, key=lambda one: one.score)
        return Outcome(best.names, f"best {self.score} of {self.total} random genotypes", self.scored, self.score)


def synflow(task: Task, network: AutoMSFNet, images: Batch, names: tuple[str, ...]) -> float:
    """Logarithm of the sum over the weights of |weight * gradient| of the output at an image of ones.

    With all weights positive and BatchNorm without effect, as the source demands; in float64, since products of many
    layers grow beyond float32. Only the decoder counts, since all genotypes share the encoder.
    """
    network = network.double().eval()
    with _linear(network):
        network(torch.ones_like(images.image[:1], dtype=torch.float64)).p1.sum().backward()
        flows = [
            (weight * weight.grad).abs().sum()
            for name, weight in network.named_parameters()
            if weight.grad is not None and not name.startswith("encoder.")
        ]
    return torch.stack(flows).sum().log().item()


@contextmanager
def _linear(network: nn.Module) -> Any:
    """Absolute weights, and BatchNorm that passes its input on."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(lambda module, inputs, output: inputs[0]) for norm in norms]
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def gradient_norm(task: Task, network: AutoMSFNet, images: Batch, names: tuple[str, ...]) -> float:
    """Euclidean norm of the loss's gradient by the decoder's weights on one batch."""
    task.loss(network, images).backward()
    squares = [
        weight.grad.square().sum()
        for name, weight in network.named_parameters()
        if weight.grad is not None and not name.startswith("encoder.")
    ]
    return torch.stack(squares).sum().sqrt().item()


@torch.no_grad()
def naswot(task: Task, network: AutoMSFNet, images: Batch, names: tuple[str, ...]) -> float:
    """Log-determinant of how many of the decoder's ReLUs agree between each two images of a batch."""
    count = len(images.index)
    kernel = torch.zeros(count, count, dtype=torch.float64)

    def agree(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        code = (output > 0).flatten(1).double().cpu()  # (B, units)
        kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

    rectifiers = [module for part in (network.laterals, network.cells) for module in part.modules()]
    hooks = [module.register_forward_hook(agree) for module in rectifiers if isinstance(module, nn.ReLU)]
    network(images.image)
    for hook in hooks:
        hook.remove()
    return float(np.linalg.slogdet(kernel.numpy())[1])


def parameters(task: Task, network: AutoMSFNet, images: Batch, names: tuple[str, ...]) -> float:
    """Number of weights."""
    return float(sum(weight.numel() for weight in network.parameters()))


def macs(task: Task, network: AutoMSFNet, images: Batch, names: tuple[str, ...]) -> float:
    """Multiply-accumulates on one image."""
    return task.macs(names)


SCORES: Mapping[ProxyName, Score] = {
    "synflow": synflow, "gradient_norm": gradient_norm, "naswot": naswot, "parameters": parameters, "macs": macs,
}  # fmt: skip
"""Score by name; greater is better."""
