"""Genotypes derived from a supernet, or drawn at random.

Source: DARTS takes the operation of greatest weight on each edge, but never `none`, whose weight does not measure its
worth. The published VGG-16 cells have `none` on outer edges, so a space may allow it there. All 31 edges are kept, as
in Figure 7.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from net.genotype import Genotype, GenotypeError, operations_of
from net.mixture import SpaceError
from net.settings import SpaceConfig
from net.supernet import SuperNet
from net.wiring import Edge, edges


def derive(network: SuperNet, space: SpaceConfig, provenance: Mapping[str, Any] | None = None) -> Genotype:
    """The operation of greatest weight on every edge, among those that `allowed` names.

    Args:
        network: the supernet, which is not changed.
        space: what it was built from.
        provenance: for the reader; the weight of each chosen operation is added.
    """
    alphas = torch.stack([alpha.detach().cpu() for alpha in network.alphas()])
    return strongest(network.probabilities().detach().cpu(), space, provenance, ranks=alphas)


def strongest(
    weights: Tensor, space: SpaceConfig, provenance: Mapping[str, Any] | None = None, ranks: Tensor | None = None
) -> Genotype:
    """The operation of greatest weight on every edge, see `derive`.

    Args:
        weights: (31, number of operations), in the order of `SuperNet.mixtures`. The mean over several searches gives
            the cells that they agree on most: what differs between seeds averages out.
        space: what was searched.
        provenance: as for `derive`.
        ranks: what to rank by instead of the weights, of the same shape. The alphas have the order of their softmax,
            but do not underflow at a low temperature.
    """
    place = space.operations.index
    rows = dict(zip(edges(), (weights if ranks is None else ranks).tolist(), strict=True))
    shown = dict(zip(edges(), weights.tolist(), strict=True))
    genotype = Genotype.choose(
        lambda edge: max(allowed(space, edge.kind), key=lambda name: rows[edge][place(name)]), space.topology
    )
    chosen = [round(shown[edge][place(name)], 4) for edge, name in operations_of(genotype)]
    return replace(genotype, provenance={**(provenance or {}), "weights": chosen})


def random_genotype(space: SpaceConfig, seed: int) -> Genotype:
    """A genotype drawn uniformly from those that `derive` could return: the baseline of a search."""
    rng = np.random.default_rng(seed)

    def draw(edge: Edge) -> str:
        names = allowed(space, edge.kind)
        return names[int(rng.integers(len(names)))]

    return Genotype.choose(draw, space.topology, {"drawn": "random", "seed": seed})


def allowed(space: SpaceConfig, kind: str) -> tuple[str, ...]:
    """The operations that `derive` may choose for an `outer` or `inner` edge.

    Raises:
        SpaceError: if there are none.
    """
    names = tuple(name for name in space.operations if name != "none" or (kind == "outer" and space.outer_none))
    if not names:
        raise SpaceError("operations", f"[{', '.join(space.operations)}] leaves nothing for {kind} edges.")
    return names


def check_genotype(genotype: Genotype, space: SpaceConfig, origin: str) -> None:
    """Refuses a genotype that a search of this space could not have found.

    Raises:
        GenotypeError: naming its origin, the edge and what the space allows.
    """
    if genotype.topology != space.topology:
        raise GenotypeError(
            f"{origin}: its topology is {genotype.topology}, the space's is {space.topology}. Set space.topology to "
            f"{genotype.topology}, or search this space."
        )
    for edge, name in operations_of(genotype):
        if name not in allowed(space, edge.kind):
            raise GenotypeError(
                f"{origin}: comes from another space: {edge} is '{name}', which this one does not allow there "
                f"({', '.join(allowed(space, edge.kind))}). Give the settings that it was searched with."
            )


@torch.no_grad()
def discretise(network: SuperNet, genotype: Genotype) -> None:
    """Sets the alphas so that each edge of the supernet is the one operation that the genotype names.

    Used to measure the discretisation gap. The alphas are overwritten.
    """
    chosen = dict(operations_of(genotype))
    for edge, mixture in network.mixtures():
        # At this distance the softmax is exactly 0 and 1 in float32, whatever the temperature.
        mixture.alpha.fill_(-1e4 * mixture.temperature)
        mixture.alpha[mixture.names.index(chosen[edge])] = 0
