"""The linear model of `effects` and `predictor`: score = a + worth of the families of operations in each cell + b GMAC.

Its features are how often a family (`nas.evidence_statistics.family_of`) occurs in each cell, and the multiply-adds of
the edges. Counts by operation and kind of edge are five times as many, and predicted nothing from 40 trainings
(docs/search.md).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.evidence_statistics import CELLS, family_features, family_of
from nas.genotype_space import GenotypeSpace
from nas.linear_model import LinearModel


def features_of(choices: GenotypeSpace, genotypes: Sequence[tuple[str, ...]]) -> NDArray[np.float64]:
    """Features of genotypes whose operations are in the order of `GenotypeSpace.edges`: (N, cells * families + 1)."""
    cost = np.array([choices.cost_of(names) / 1e9 for names in genotypes])
    return family_features([choices.genotype(names) for names in genotypes], cost, _families(choices))


def worth(choices: GenotypeSpace, model: LinearModel) -> list[dict[str, float]]:
    """For each edge, operation -> what one more edge with it adds to the prediction, its multiply-adds included."""
    effects, _ = model.effects()
    families = _families(choices)
    found = []
    for edge, costs in zip(choices.edges, choices.macs, strict=True):
        start = CELLS.index(edge.cell) * len(families)
        found.append({
            name: float(effects[start + families.index(family_of(name))] + effects[-1] * cost / 1e9)
            for name, cost in costs.items()
        })  # fmt: skip
    return found


def _families(choices: GenotypeSpace) -> list[str]:
    return sorted({family_of(name) for names in choices.names for name in names})
