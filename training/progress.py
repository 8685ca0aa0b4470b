"""Position of a run, part of its state."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Progress:
    """The next batch to train on, both numbers counted from 0, and the steps done.

    At the end of an epoch `batch` is the number of batches until the epoch is validated; then the next epoch begins.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Sets all fields."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def share(self, batches: int, epochs: int) -> float:
        """Share of a run that is done once the step at this position is, in (0, 1]."""
        return min((self.epoch * batches + self.batch + 1) / (epochs * batches), 1.0)


@dataclass
class TrainProgress(Progress):
    """Position of a training run, and its best validation so far: weighted F, epoch from 1, scores by name."""

    best: float = -math.inf
    best_epoch: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)
