"""Linear models of genotypes: score = a + worth of what occurs how often at which place + b GMAC.

`effects` and `predictor`, which learn from some 40 trainings, count families of operations
(`nas.evidence_statistics.family_of`) in each cell: counts of single operations are five times as many features, and
predicted nothing from so few (docs/search.md). `oneshot` has 600 scores, and may count operations by cell and kind of
edge.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.evidence_statistics import CELLS, SITES, count_features, family_features, family_of
from nas.genotype_space import GenotypeSpace
from nas.linear_model import LinearModel
from net.genotype import Genotype
from net.wiring import Edge


@dataclass(frozen=True)
class Counting:
    """What is counted, and where.

    Attributes:
        features: (genotypes, their GMAC, labels) -> (N, places * labels + 1), the multiply-adds last.
        places: all of them, in the order of the features.
        place: of an edge.
        label: under which an operation counts.
    """

    features: Callable[[Sequence[Genotype], NDArray[np.float64], Sequence[str]], NDArray[np.float64]]
    places: Sequence[Hashable]
    place: Callable[[Edge], Hashable]
    label: Callable[[str], str]


FAMILIES = Counting(family_features, CELLS, lambda edge: edge.cell, family_of)
"""Families of operations by cell."""
OPERATIONS = Counting(count_features, SITES, lambda edge: (edge.cell, edge.kind), str)
"""Operations by cell and kind of edge."""


def features_of(
    choices: GenotypeSpace, genotypes: Sequence[tuple[str, ...]], counting: Counting = FAMILIES
) -> NDArray[np.float64]:
    """Features of genotypes whose operations are in the order of `GenotypeSpace.edges`: (N, places * labels + 1)."""
    cost = np.array([choices.cost_of(names) / 1e9 for names in genotypes])
    return counting.features([choices.genotype(names) for names in genotypes], cost, _labels(choices, counting))


def worth(choices: GenotypeSpace, model: LinearModel, counting: Counting = FAMILIES) -> list[dict[str, float]]:
    """For each edge, operation -> what one more edge with it adds to the prediction, its multiply-adds included."""
    effects, _ = model.effects()
    labels = _labels(choices, counting)
    found = []
    for edge, costs in zip(choices.edges, choices.macs, strict=True):
        start = list(counting.places).index(counting.place(edge)) * len(labels)
        found.append({
            name: float(effects[start + labels.index(counting.label(name))] + effects[-1] * cost / 1e9)
            for name, cost in costs.items()
        })  # fmt: skip
    return found


def _labels(choices: GenotypeSpace, counting: Counting) -> list[str]:
    return sorted({counting.label(name) for names in choices.names for name in names})
