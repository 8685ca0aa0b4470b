"""Start from the weights of another network: `train.py --init`, for fine-tuning and warm restarts.

What fits is taken: a tensor of the same name and shape, and of a cell's edge only if its operation is the same. The
rest starts as it would without.
"""

from collections.abc import Iterable

import torch

from inference.weights import LoadedNetwork
from net.auto_msfnet import AutoMSFNet
from training.session import refuse_non_finite
from training.settings import TrainError

SHOWN = 6  # parts that the report names


def take_fitting(network: AutoMSFNet, source: LoadedNetwork) -> str:
    """Copies all weights and BatchNorm statistics that fit.

    Args:
        network: that will be trained.
        source: what to start from; its encoder and cells may differ.

    Returns:
        One line: how much was taken, which parts start anew, and which of the source have no place here.

    Raises:
        TrainError: if nothing fits.
        StateError: if a weight is not finite.
    """
    theirs, ours = source.network.state_dict(), network.state_dict()
    refuse_non_finite(theirs, f"{source.source}: ")
    other = changed_edges(network, source.network)
    taken = {
        name for name, value in ours.items()
        if name in theirs and theirs[name].shape == value.shape and not name.startswith(other)
    }  # fmt: skip
    if not taken:
        raise TrainError(
            f"init: no tensor of {source.source} ({source.config.encoder}, {source.config.channels} channels) fits "
            f"this network. Set network.encoder or network.channels as there, or leave init out."
        )
    with torch.no_grad():
        for name in taken:
            ours[name].copy_(theirs[name])
    line = f"init {source.source.name}: {len(taken)} of {len(ours)} tensors taken"
    new = parts(name for name in ours if name not in taken)
    without_place = [part for part in parts(name for name in theirs if name not in ours) if part not in new]
    for title, found in (("new", new), ("left out", without_place)):
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            line += f"; {title}: {', '.join(found[:SHOWN])}{more}"
    return line


def changed_edges(ours: AutoMSFNet, theirs: AutoMSFNet) -> tuple[str, ...]:
    """Prefixes of the tensors of all edges whose operation is not the same in both networks."""
    return tuple(
        f"cells.{number}.{kind}.{place}."
        for number, (cell, other) in enumerate(zip(ours.genotype.cells, theirs.genotype.cells, strict=True))
        for kind in ("outer", "inner")
        for place, names in enumerate(zip(getattr(cell, kind), getattr(other, kind), strict=True))
        if names[0] != names[1]
    )


def parts(names: Iterable[str]) -> list[str]:
    """The parts of a network that tensors belong to, each once, such as `encoder`, `laterals.2`, `cells.0.outer.1`."""
    depth = {"encoder": 1, "context": 1, "laterals": 2, "heads": 2, "cells": 4}
    found = (name.split(".") for name in names)
    return list(dict.fromkeys(".".join(name[: depth.get(name[0], 2)]) for name in found))
