"""Out of memory as one line that names the setting to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from utils.errors import UserError

SIGNS = ("DefaultCPUAllocator: can't allocate memory", "not enough memory", "MPS backend out of memory")


class OutOfMemoryError(UserError):
    """A network and batch that do not fit into the memory of the device."""


@contextmanager
def reported(device: torch.device, cure: str) -> Iterator[None]:
    """Inside, a failed allocation is an `OutOfMemoryError`.

    Args:
        device: where the program computes.
        cure: which settings to lower, with their values.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        kinds = (MemoryError, torch.OutOfMemoryError)
        if not isinstance(error, kinds) and not any(sign in str(error) for sign in SIGNS):
            raise
        asked = next((part for part in str(error).split(". ") if "allocate" in part), "an allocation failed")
        raise OutOfMemoryError(f"{device}: out of memory ({asked.strip()[:90]}). {cure}") from None
