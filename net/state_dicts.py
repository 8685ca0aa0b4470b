"""State dicts as other programs save them: found inside their wrappers, and checked before they are loaded.

Known wrappers: dictionaries such as {"state_dict": ...}, {"model": ...} or those of Lightning; averaged weights (EMA)
beside the plain ones; prefixes of DataParallel (`module.`), torch.compile (`_orig_mod.`) and of enclosing modules.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.checkpoint import CheckpointError

DEPTH = 4  # of nested wrappers
_AVERAGED = re.compile(r"(^|_)ema(_|$)", re.IGNORECASE)
_PREFIXES = ("module.", "_orig_mod.", "model.")


def state_dicts(state: Mapping[str, Any], depth: int = DEPTH) -> Iterator[dict[str, Tensor]]:
    """Every dictionary of tensors in a checkpoint, averaged weights first, the outermost before those inside it.

    Prefixes of wrappers (`module.`, `_orig_mod.`, `model.`) are removed where all tensors have them.
    """
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    inner = [key for key, value in state.items() if isinstance(value, Mapping)] if depth else []
    averaged = [key for key in inner if _AVERAGED.search(str(key))]
    for key in averaged:
        yield from state_dicts(state[key], depth - 1)
    if tensors:
        yield _unprefixed(tensors)
    for key in inner:
        if key not in averaged:
            yield from state_dicts(state[key], depth - 1)


def fitting(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that a module needs, by the module's own keys; those that are not there are left out.

    Args:
        state: of a checkpoint, with any wrappers.
        wanted: the module's state dict.

    Of several dictionaries and prefixes, the one with most of the wanted keys is taken; of equals, the first.
    """
    best: dict[str, Tensor] = {}
    for tensors in state_dicts(state):
        for prefix in _prefixes(tensors, wanted):
            found = {key: tensors[prefix + key] for key in wanted if prefix + key in tensors}
            best = found if len(found) > len(best) else best
    return best


def check_values(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors that can't be weights.

    Raises:
        CheckpointError: naming the tensor, if it is not floating-point where the module's is, or holds NaN or infinity.
    """
    for key, value in tensors.items():
        if key not in wanted or not wanted[key].is_floating_point():
            continue
        if not value.is_floating_point():
            raise CheckpointError(
                f"{path}: '{key}' is {value.dtype}, expected floating-point numbers. Export it again."
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: '{key}' holds NaN or infinity, so the training that wrote it diverged. Give an earlier file."
            )


def _unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            return _unprefixed({key.removeprefix(prefix): value for key, value in tensors.items()})
    return tensors


def _prefixes(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Candidate prefixes of the module's keys among the tensors of an enclosing module; the empty one first."""
    first = next(iter(wanted), "")
    return ["", *(key.removesuffix(first) for key in tensors if key.endswith(f".{first}"))]
