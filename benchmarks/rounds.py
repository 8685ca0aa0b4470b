"""Ways of doing the same take turns, so that a busy moment of the machine meets them all."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def alternate(calls: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """Seconds of every call, round by round; a round before them warms up and does not count.

    Args:
        calls: what is timed, by name, in the order of a round.
        rounds: how many count, at least 1.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return seconds
