"""Finds the fastest of several candidates with few measurements: successive halving.

All candidates take turns, so that a busy moment slows each of them. After every round the candidates that are far
behind, and the slower half, are dropped; the rest are measured again. Source: Jamieson and Talwalkar, "Non-stochastic
Best Arm Identification and Hyperparameter Optimization" (AISTATS 2016), with a limit on the distance to the best added.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

ROUNDS = (1, 1, 3)
"""Turns of every remaining candidate in each round."""
FAR = (2.0, 1.4, 1.0)
"""After each round, candidates slower than this many times the best are dropped."""
NOISY = 0.15
"""Spread of the winner's turns, as a share of their median, above which a measurement is not trusted."""


@dataclass(frozen=True)
class Outcome(Generic[Name]):
    """The result of a race.

    Attributes:
        winner: the fastest candidate, by the median of its turns.
        seconds: turns of every candidate, in order; fewer for those that were dropped.
        spread: (slowest - fastest) / median of the winner's turns after its first.
    """

    winner: Name
    seconds: dict[Name, list[float]]
    spread: float

    @property
    def noisy(self) -> bool:
        """Whether the winner's turns differ by more than `NOISY`."""
        return self.spread > NOISY


def race(turns: Mapping[Name, Callable[[], float]]) -> Outcome[Name]:
    """Measures candidates until the fastest is known.

    Args:
        turns: by candidate, a call that runs it once and returns its seconds per image. At least one.

    Returns:
        The winner and all measurements.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in turns}
    alive = list(turns)
    for count, far in zip(ROUNDS, FAR, strict=True):
        for _ in range(count):
            for name in alive:
                seconds[name].append(turns[name]())
        best = min(min(seconds[name]) for name in alive)
        alive = [name for name in alive if min(seconds[name]) <= far * best]
        alive = sorted(alive, key=lambda name: median(seconds[name]))[: max(2, math.ceil(len(alive) / 2))]
    finalists = [name for name in turns if len(seconds[name]) == sum(ROUNDS)]
    winner = min(finalists, key=lambda name: median(seconds[name]))
    return Outcome(winner, seconds, _spread(seconds[winner][1:]))


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / median(values)
