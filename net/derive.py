"""From a supernet, or from chance, to a genotype.

Source: DARTS takes the strongest operation of an edge and never `none`, whose weight says nothing of its worth. The
published VGG-16 cells have `none` on outer edges, so there it is a choice. All 31 edges stay, as in Figure 7.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from net.genotype import INNER_EDGES, LEVELS, CellGenotype, Genotype
from net.mixture import SpaceError
from net.settings import SpaceConfig
from net.supernet import Edge, SuperNet

Choose = Callable[[Edge, Sequence[str]], str]


def derive(network: SuperNet, space: SpaceConfig, provenance: Mapping[str, Any] | None = None) -> Genotype:
    """The operation of greatest weight on every edge, among those that `allowed` names.

    Args:
        network: the supernet; it stays as it is.
        space: what it was built from.
        provenance: for the reader; the weight of each chosen operation is added.
    """
    return strongest(network.probabilities().detach().cpu(), space, provenance)


def strongest(weights: Tensor, space: SpaceConfig, provenance: Mapping[str, Any] | None = None) -> Genotype:
    """The operation of greatest weight on every edge, see `derive`.

    Args:
        weights: (31, number of operations), in the order of `SuperNet.mixtures`. The mean of those of several searches
            gives the cells that they agree on most: what differs from seed to seed averages out.
        space: what was searched.
        provenance: as for `derive`.
    """
    edges = [edge for edge, _ in operations_of(_choose(space, lambda edge, names: names[0]))]
    rows = dict(zip(edges, weights.tolist(), strict=True))
    weight_of = lambda edge, name: rows[edge][space.operations.index(name)]  # noqa: E731
    genotype = _choose(space, lambda edge, names: max(names, key=lambda name: weight_of(edge, name)))
    chosen = [round(weight_of(edge, name), 4) for edge, name in operations_of(genotype)]
    return Genotype(genotype.cells, genotype.topology, {**(provenance or {}), "weights": chosen})


def random_genotype(space: SpaceConfig, seed: int) -> Genotype:
    """A genotype drawn evenly from all that `derive` could return: the baseline that a search has to beat."""
    rng = np.random.default_rng(seed)
    genotype = _choose(space, lambda edge, names: names[int(rng.integers(len(names)))])
    return Genotype(genotype.cells, genotype.topology, {"drawn": "random", "seed": seed})


def allowed(space: SpaceConfig, kind: str) -> tuple[str, ...]:
    """What a derived edge, `outer` or `inner`, may be.

    Raises:
        SpaceError: if that is nothing.
    """
    names = tuple(name for name in space.operations if name != "none" or (kind == "outer" and space.outer_none))
    if not names:
        raise SpaceError(f"space.operations: [{', '.join(space.operations)}] leaves nothing for {kind} edges.")
    return names


def check_genotype(genotype: Genotype, space: SpaceConfig, origin: str) -> None:
    """Refuses a genotype that a search of this space could not have found.

    Raises:
        SpaceError: naming its origin, the edge and what the space has.
    """
    if genotype.topology != space.topology:
        raise SpaceError(
            f"{origin}: its topology is {genotype.topology}, the space's is {space.topology}. Set space.topology to "
            f"{genotype.topology}, or search this space."
        )
    for edge, name in operations_of(genotype):
        if name not in allowed(space, edge.kind):
            raise SpaceError(
                f"{origin}: comes from another space: {edge} is '{name}', which this one does not allow there "
                f"({', '.join(allowed(space, edge.kind))}). Give the settings that it was searched with."
            )


def operations_of(genotype: Genotype) -> list[tuple[Edge, str]]:
    """Each edge with its operation, in the order of `SuperNet.mixtures`."""
    return [
        (Edge(number, kind, place), name)
        for number, cell in enumerate(genotype.cells, 1)
        for kind in ("outer", "inner")
        for place, name in enumerate(getattr(cell, kind))
    ]


@torch.no_grad()
def discretise(network: SuperNet, genotype: Genotype) -> None:
    """Sets the alphas so that each edge of the supernet is the one operation that the genotype names.

    For measuring what the supernet loses by that; keep the alphas if they are still needed.
    """
    chosen = dict(operations_of(genotype))
    for edge, mixture in network.mixtures():
        # So far apart that the softmax is exactly 0 and 1 in float32 at any sensible temperature.
        mixture.alpha.fill_(-1e4 * mixture.temperature)
        mixture.alpha[mixture.names.index(chosen[edge])] = 0


def _choose(space: SpaceConfig, choose: Choose) -> Genotype:
    cells = []
    for number, inner in enumerate(INNER_EDGES, 1):
        kinds = {
            kind: tuple(choose(Edge(number, kind, place), allowed(space, kind)) for place in range(count))
            for kind, count in (("outer", len(LEVELS)), ("inner", inner))
        }
        cells.append(CellGenotype(kinds["outer"], kinds["inner"]))
    return Genotype(tuple(cells), space.topology)
