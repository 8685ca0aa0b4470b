"""Genotype: which operation is on which edge of the three cells. Data, never code.

Source: paper Figure 7 (edges and their order); the genotypes `resnet50` and `vgg16` are those of the authors' release,
`lite` is ours, found by search.py (docs/search.md).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from net import operations
from net.settings import Topology
from net.wiring import CELLS, LEVELS, Edge, edges, wiring_of
from utils.errors import UserError

SCHEMA = 1
MOST_CHARACTERS = 1 << 20
SHIPPED = Path(__file__).parent / "genotypes"

TOPOLOGIES: tuple[str, ...] = get_args(Topology)


class GenotypeError(UserError):
    """A genotype that is incomplete, names an unknown operation, or can't be read."""


@dataclass(frozen=True)
class CellGenotype:
    """Operations of one cell.

    Attributes:
        outer: one operation a level, in the order E5, E4, E3, E2.
        inner: operations between nodes in the order of Figure 7: root to first node, then for each later node
            the edge from the node before it and its second edge.
    """

    outer: tuple[str, ...]
    inner: tuple[str, ...]


@dataclass(frozen=True)
class Genotype:
    """Three cells, coarse (S/16) to fine (S/4).

    Attributes:
        cells: operations of each.
        topology: `released` or `figure`, see `net.wiring`.
        provenance: who made it and how; any data for the reader.

    Raises:
        GenotypeError: on the wrong number of cells or edges, or an operation that is not registered.
    """

    cells: tuple[CellGenotype, ...]
    topology: Topology = "released"
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _validate(self, "genotype")

    def to_json(self) -> str:
        """The genotype as JSON text that `from_json` reads back."""
        record = {"schema": SCHEMA, **self.plain(), "provenance": dict(self.provenance)}
        return json.dumps(record, indent=2) + "\n"

    def plain(self) -> dict[str, Any]:
        """Topology and cells as plain values, without the provenance."""
        cells = [{"outer": list(cell.outer), "inner": list(cell.inner)} for cell in self.cells]
        return {"topology": self.topology, "cells": cells}

    @classmethod
    def choose(
        cls, choose: Callable[[Edge], str], topology: Topology, provenance: Mapping[str, Any] | None = None
    ) -> "Genotype":
        """The genotype with the operation `choose(edge)` on each edge, asked for in the order of `net.wiring.edges`."""
        chosen = [(edge, choose(edge)) for edge in edges()]
        cells = tuple(
            CellGenotype(*(
                tuple(name for edge, name in chosen if (edge.cell, edge.kind) == (cell, kind))
                for kind in ("outer", "inner")
            ))
            for cell in range(1, CELLS + 1)
        )  # fmt: skip
        return cls(cells, topology, provenance or {})

    @classmethod
    def from_json(cls, text: str, origin: str = "genotype") -> "Genotype":
        """Reads a genotype.

        Args:
            text: JSON as `to_json` writes it.
            origin: name in errors, such as the file.

        Raises:
            GenotypeError: naming the origin, the cell and the key.
        """
        if len(text) > MOST_CHARACTERS:
            raise GenotypeError(f"{origin}: {len(text)} characters are no genotype. Give a file written by search.py.")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise GenotypeError(f"{origin}: no JSON ({reason}). Expected a genotype written by search.py.") from None
        return _from_record(record, origin)


def load(source: str | Path) -> Genotype:
    """Loads a genotype by shipped name (`resnet50`, `vgg16`, `lite`) or from a JSON file.

    Raises:
        GenotypeError: if there is no such name or file, or its content is not a valid genotype.
    """
    shipped = sorted(file.stem for file in SHIPPED.glob("*.json"))
    path = SHIPPED / f"{source}.json" if str(source) in shipped else Path(source)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise GenotypeError(f"{path}: no UTF-8 text. Expected a genotype written by search.py.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GenotypeError(
            f"genotype {_short(str(source))} is neither a shipped name ({', '.join(shipped)}) nor a file that can "
            f"be read ({reason})."
        ) from None
    return Genotype.from_json(text, origin=str(path))


def operations_of(genotype: Genotype) -> list[tuple[Edge, str]]:
    """Each edge with its operation, in the order of `net.wiring.edges`."""
    return [(edge, getattr(genotype.cells[edge.cell - 1], edge.kind)[edge.number]) for edge in edges()]


def _from_record(record: object, origin: str) -> Genotype:
    """A genotype from parsed JSON, every part of which is checked."""
    if not isinstance(record, dict) or not isinstance(record.get("cells"), list):
        raise GenotypeError(f"{origin}: expected an object with the keys schema, topology and cells.")
    if record.get("schema") != SCHEMA:
        raise GenotypeError(
            f"{origin}: schema is {_short(record.get('schema'))}, this program reads {SCHEMA}. Search again, or update."
        )
    if not isinstance(record.get("provenance", {}), dict):
        raise GenotypeError(
            f"{origin}: provenance is {_short(record['provenance'])}, expected an object. Correct or remove it."
        )
    cells = tuple(_cell(cell, number, origin) for number, cell in enumerate(record["cells"], 1))
    try:
        return Genotype(cells, record.get("topology", "released"), record.get("provenance", {}))
    except GenotypeError as error:
        raise GenotypeError(f"{origin}: {str(error).removeprefix('genotype: ')}") from None


def _cell(record: object, number: int, origin: str) -> CellGenotype:
    if not isinstance(record, dict):
        raise GenotypeError(f"{origin}: cell {number} is {_short(record)}, expected an object with outer and inner.")
    return CellGenotype(*(_edges(record.get(kind), number, kind, origin) for kind in ("outer", "inner")))


def _edges(value: object, number: int, kind: str, origin: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise GenotypeError(f"{origin}: cell {number}, {kind}: expected a list of operations, got {_short(value)}.")
    return tuple(value)


def _validate(genotype: Genotype, origin: str) -> None:
    if genotype.topology not in TOPOLOGIES:
        raise GenotypeError(
            f"{origin}: topology is {_short(genotype.topology)}, expected one of {', '.join(TOPOLOGIES)}."
        )
    if len(genotype.cells) != CELLS:
        raise GenotypeError(f"{origin}: {len(genotype.cells)} cells, expected {CELLS}.")
    for number, cell in enumerate(genotype.cells, 1):
        _check_count(cell.outer, len(LEVELS), f"{origin}: cell {number}, outer")
        _check_count(cell.inner, wiring_of(number).inner_edges, f"{origin}: cell {number}, inner")
        for name in (*cell.outer, *cell.inner):
            if name not in operations.names():
                raise GenotypeError(
                    f"{origin}: cell {number} uses the operation {_short(name)}, which is not registered. Registered: "
                    f"{', '.join(operations.names()[:6])}, ... ({len(operations.names())}). "
                    f"Register it in a file given by --plugins."
                )


def _short(value: object) -> str:
    """A value for an error, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]} ... ({len(text)} characters)"


def _check_count(edges: Sequence[str], expected: int, where: str) -> None:
    if len(edges) != expected:
        raise GenotypeError(f"{where}: {len(edges)} operations, expected {expected}.")
