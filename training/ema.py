"""A running average of a network's weights, which often scores better than the last weights.

Source: Polyak and Juditsky 1992; the warm-up of the decay is TensorFlow's `ExponentialMovingAverage(num_updates)`.
Why a warm-up: with a constant decay of .999 the random weights of step 0 still make up a third of the average a
thousand steps later. With min(decay, (1 + t) / (10 + t)) the average always spans about the last ninth of the run
until that reaches 1 / (1 - decay) steps.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.settings import AverageConfig


class Average:
    """The running average of a network's weights and of its BatchNorm statistics.

    Args:
        network: what is averaged; the average begins as a copy of it.
        config: decay and warm-up.
    """

    def __init__(self, network: nn.Module, config: AverageConfig) -> None:
        self.config = config
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves towards the network's weights; once after every step of the optimizer."""
        self.steps += 1
        keep = min(self.config.decay, (1 + self.steps) / (self.config.warmup + self.steps))
        now = network.state_dict()
        averaged = [name for name, average in self.weights.items() if average.is_floating_point()]
        # average + (now - average) * (1 - keep), for all tensors in one call.
        ours, theirs = [self.weights[name] for name in averaged], [now[name] for name in averaged]
        torch._foreach_lerp_(ours, theirs, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        for name in self.weights.keys() - set(averaged):  # BatchNorm counts its batches, which has no average
            self.weights[name].copy_(now[name])

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """The network has the averaged weights inside of the block, and its own again after it, to the bit."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to resume to the bit."""
        return {"steps": self.steps, "weights": self.weights}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Puts a saved average over this one."""
        self.steps = int(state_dict["steps"])
        saved: Mapping[str, Tensor] = state_dict["weights"]
        for name, value in self.weights.items():
            value.copy_(saved[name])
