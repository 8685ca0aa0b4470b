"""Ranges of numbers in settings, stated in the type of a field and checked in one place.

    rate: Annotated[float, Limit(above=0)] = 0.1
    workers: Workers = 2

A dataclass calls `check_limits(self)` in `__post_init__`. The error names the field; the program that parsed it adds
the key of the group (`SettingError.within`).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from utils.errors import UserError


class SettingError(UserError):
    """A setting with a value that is not supported.

    Attributes:
        key: name of the field, dotted within groups.
        problem: what is wrong with its value, and the cure.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem

    def within(self, group: str) -> "SettingError":
        """The same error of the same class, with the key inside a group."""
        return type(self)(f"{group}.{self.key}", self.problem)


@contextmanager
def in_group(name: str) -> Iterator[None]:
    """Errors of settings inside get the name of their group: `partial: ...` becomes `space.partial: ...`."""
    try:
        yield
    except SettingError as error:
        raise error.within(name) from None


@dataclass(frozen=True, repr=False)
class Limit:
    """A range: from `least` to `most`, both included, or above `above`, or below `below`. NaN is outside."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __repr__(self) -> str:
        """The range in words, for the help and for errors."""
        parts = {"from": self.least, "above": self.above, "up to": self.most, "below": self.below}
        return " ".join(f"{word} {value:.10g}" for word, value in parts.items() if math.isfinite(value)) or "finite"

    def problem(self, value: Any) -> str | None:
        """What is wrong with a number, or with the first such number of a list or tuple; None if nothing is."""
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, str):  # a word such as "auto", which the type allows
                continue
            inside = self.least <= number <= self.most and self.above < number < self.below
            if number is not None and not (inside and math.isfinite(number)):
                return f"{value}, expected a number {self!r}."
        return None


Count = Annotated[int, Limit(1, 10**7)]
OptionalCount = Annotated[int, Limit(0, 10**7)]
Seed = Annotated[int, Limit(0, 2**32 - 1)]
OptionalSeed = Annotated[int | None, Limit(0, 2**32 - 1)]
Workers = Annotated[int, Limit(0, 256)]
Side = Annotated[int, Limit(32, 8192)]
Channels = Annotated[int, Limit(1, 8192)]
Share = Annotated[float, Limit(0, 1)]
Positive = Annotated[float, Limit(above=0, most=1e9)]
NotNegative = Annotated[float, Limit(0, 1e9)]


def limit_of(hint: Any) -> Limit | None:
    """The limit that an annotated type states."""
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Limit)), None)


def check_limits(settings: Any) -> None:
    """Checks the numbers of a dataclass; None passes.

    Raises:
        SettingError: for the first number that is out of its range.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        limit, value = limit_of(hint), getattr(settings, name)
        if limit is not None and value is not None and (problem := limit.problem(value)):
            raise SettingError(name, problem)
