"""Readings: values of steps that stay on their device until the host reads all of them at once.

Reading a value makes the host wait until a GPU has finished everything launched before, and the GPU then waits for the
host. So on a GPU the programs read at the logging interval, and before a checkpoint. A value that is not finite ends
the run up to an interval later, and no checkpoint holds what followed it. On a CPU a read costs nothing, so every step
is read at once.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """What a step measured, by name; steps count from 0."""

    step: int
    values: dict[str, float]

    def not_finite(self) -> list[str]:
        """Names of the values that are NaN or infinite."""
        return [name for name, value in self.values.items() if not math.isfinite(value)]


class Readings:
    """Values of the steps since the last read.

    Args:
        device: where they are.

    Attributes:
        immediate: whether a read costs nothing there, so that every step should be read.
    """

    def __init__(self, device: torch.device) -> None:
        self.immediate = device.type == "cpu"
        self._rows: list[tuple[int, tuple[str, ...], Tensor]] = []
        self._held: Tensor | None = None

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Notes scalars of one step without a wait."""
        self._rows.append((step, tuple(values), torch.stack([one.detach() for one in values.values()])))

    def read(self, further: Tensor | None = None) -> tuple[list[Row], list[float]]:
        """All rows since the last read, in their order, and the numbers of `further` (N,): one wait for both."""
        parts = [values for _, _, values in self._rows] + ([] if further is None else [further])
        numbers = iter(torch.cat(parts).tolist() if parts else [])
        rows = [Row(step, {name: next(numbers) for name in names}) for step, names, _ in self._rows]
        self._rows = []
        return rows, list(numbers)

    def hold(self, optimizer: torch.optim.Optimizer, values: Tensor) -> None:
        """From the first step on at which a value is not finite, a fused optimizer moves no weight.

        The weights that an error saves are then those of the step that it names, however late it is read.

        Args:
            optimizer: fused, and not driven by a gradient scaler, which decides this itself.
            values: (N,), of this step.
        """
        wrong = 1 - values.isfinite().all().float()
        self._held = wrong if self._held is None else torch.maximum(self._held, wrong)
        fused: Any = optimizer
        fused.found_inf = self._held
