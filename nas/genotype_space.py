"""All genotypes of a search space with what they cost: draw one, change one, choose the best under a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nas.settings import TOLERANCE, SearchCostConfig, SearchError
from net.cost import edge_sides, multiply_accumulates
from net.derive import allowed
from net.genotype import CellGenotype, Genotype, operations_of
from net.settings import SpaceConfig
from net.supernet import build_supernet
from net.wiring import Edge

BINS = 4000
"""Into how many parts a limit is cut by `GenotypeSpace.best`. Costs are rounded up, so no limit is exceeded."""
DRAWS = 2000
"""Even draws before a genotype is moved towards a target, see `GenotypeSpace.draw`."""

PLAIN = {
    "dil_conv_3x3": "sep_conv_3x3", "dil_conv_3x3_rp2": "sep_conv_3x3_rp2", "dil_conv_3x3_dil4": "sep_conv_3x3",
}  # fmt: skip
"""Dilated operation -> the one without dilation that has the same layers, hence the same cost."""


class GenotypeSpace:
    """The genotypes that a search may return.

    Args:
        space: encoder, width, candidates.
        size: side of the input in pixels, for the cost.
        cost: limit and target.

    Attributes:
        edges: all 31, in the order of `SuperNet.mixtures`.
        names: for each edge the operations that it may have.
        macs: for each edge, operation -> multiply-accumulates on one image.

    Raises:
        SearchError: if no genotype meets the limit or the target.
    """

    def __init__(self, space: SpaceConfig, size: int, cost: SearchCostConfig) -> None:
        self.space, self.limit, self.target = space, cost.limit, cost.target
        # One candidate an edge: only the sides are needed.
        network = build_supernet(replace(space, operations=["skip_connect"], partial=1))
        sides = edge_sides(network, size)
        self.edges: list[Edge] = [edge for edge, _ in network.mixtures()]
        self.names = [allowed(space, edge.kind) for edge in self.edges]
        self.macs = [
            {name: multiply_accumulates(name, space.channels, sides[edge]) for name in names}
            for edge, names in zip(self.edges, self.names, strict=True)
        ]
        least, most = (sum(end(costs.values()) for costs in self.macs) for end in (min, max))
        if self.limit and least > self.limit:
            raise SearchError(f"cost.limit: {self.limit:.4g}, the cheapest genotype of this space has {least:.4g}.")
        if self.target and not least <= self.target <= most:
            raise SearchError(f"cost.target: {self.target:.4g}, this space has {least:.4g} to {most:.4g}.")

    def cost_of(self, names: Sequence[str]) -> float:
        """Multiply-accumulates of all edges; `names` in the order of `edges`."""
        return sum(costs[name] for costs, name in zip(self.macs, names, strict=True))

    def fits(self, names: Sequence[str]) -> bool:
        """Whether limit and target are met."""
        cost = self.cost_of(names)
        near = not self.target or abs(cost - self.target) <= TOLERANCE * self.target
        return near and (not self.limit or cost <= self.limit)

    def genotype(self, names: Sequence[str], provenance: Mapping[str, Any] | None = None) -> Genotype:
        """The genotype with these operations, in the order of `edges`."""
        chosen = dict(zip(self.edges, names, strict=True))
        return Genotype.choose(chosen.__getitem__, self.space.topology, provenance)

    def draw(self, rng: np.random.Generator) -> tuple[str, ...]:
        """Operations of a random genotype that meets limit and target.

        Even over these where a draw in `DRAWS` meets them. Else the last draw is moved: random edges get random
        operations as long as that brings the cost nearer.

        Raises:
            SearchError: if none was found.
        """
        names: tuple[str, ...] = ()
        for _ in range(DRAWS):
            names = tuple(options[int(rng.integers(len(options)))] for options in self.names)
            if self.fits(names):
                return names
        for _ in range(100 * DRAWS):
            changed = self.changed(names, rng)
            if self._excess(changed) <= self._excess(names):
                names = changed
            if self.fits(names):
                return names
        raise SearchError(f"cost.target: {self.target:.4g}: no genotype within {TOLERANCE:.0%} was found.")

    def changed(self, names: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        """The same operations but for one random edge, which gets a random one."""
        place = int(rng.integers(len(names)))
        options = self.names[place]
        return (*names[:place], options[int(rng.integers(len(options)))], *names[place + 1 :])

    def child(self, first: Sequence[str], second: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        """Each edge from either parent, then one changed at random; repeated until limit and target are met."""
        for _ in range(DRAWS):
            names = self.changed([pair[int(rng.integers(2))] for pair in zip(first, second, strict=True)], rng)
            if self.fits(names):
                return names
        return tuple(first)

    def best(self, values: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
        """The operations of greatest total value that meet limit and target.

        Exact but for the rounding of costs to `BINS` parts: a multiple-choice knapsack by dynamic programming.

        Args:
            values: for each edge, operation -> value.
        """
        top = self.target * (1 + TOLERANCE) if self.target else self.limit
        if not top:
            return tuple(max(names, key=row.__getitem__) for names, row in zip(self.names, values, strict=True))
        unit = top / BINS
        totals = np.full(BINS + 1, -np.inf)  # by cost so far, in units
        totals[0] = 0.0
        chosen: list[np.ndarray] = []
        for names, row, costs in zip(self.names, values, self.macs, strict=True):
            options = np.full((len(names), BINS + 1), -np.inf)
            for place, name in enumerate(names):
                units = int(np.ceil(costs[name] / unit))
                if units <= BINS:
                    options[place, units:] = totals[: BINS + 1 - units] + row[name]
            chosen.append(options.argmax(0))
            totals = options.max(0)
        least = int(BINS * (1 - TOLERANCE) / (1 + TOLERANCE)) if self.target else 0
        for end in (least + np.argsort(-totals[least:], kind="stable")).tolist():
            names = self._trace(chosen, end, unit)
            if np.isfinite(totals[end]) and self.fits(names):
                return names
        raise SearchError(f"cost.limit: {top:.4g}: no genotype of this space meets it.")

    def _trace(self, chosen: Sequence[np.ndarray], end: int, unit: float) -> tuple[str, ...]:
        """The operations that led to a cost of `end` units."""
        names: list[str] = []
        for options, places, costs in zip(reversed(self.names), reversed(chosen), reversed(self.macs), strict=True):
            names.append(options[int(places[end])])
            end -= int(np.ceil(costs[names[-1]] / unit))
            if end < 0:
                return tuple(options[0] for options in self.names)  # not reachable: refused by `fits` or infinite
        return tuple(reversed(names))

    def _excess(self, names: Sequence[str]) -> float:
        """How far the cost is from what is wanted."""
        cost = self.cost_of(names)
        return abs(cost - self.target) if self.target else max(cost - self.limit, 0.0)


def names_of(genotype: Genotype) -> tuple[str, ...]:
    """Operations of a genotype in the order of `GenotypeSpace.edges`."""
    return tuple(name for _, name in operations_of(genotype))


def dilated(genotype: Genotype) -> int:
    """Number of edges with a dilated operation."""
    return sum(name in PLAIN for name in names_of(genotype))


def without_dilation(genotype: Genotype) -> Genotype:
    """The genotype with `PLAIN` in the place of every dilated operation: the same cost, layer by layer."""
    cells = tuple(
        CellGenotype(*(tuple(PLAIN.get(name, name) for name in kind) for kind in (cell.outer, cell.inner)))
        for cell in genotype.cells
    )
    return Genotype(cells, genotype.topology, {**genotype.provenance, "dilated operations": "replaced by plain ones"})
