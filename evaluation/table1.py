"""Table 1 of the paper as data: the cells that we hold, with their source (`table1.json`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class PaperRow:
    """One method of one backbone in Table 1.

    Args:
        method, backbone: as the paper names them.
        cells: benchmark -> measure (a key of `evaluation.metrics.Measures`) -> printed value.
        notes: benchmark -> what is odd about its cells.
    """

    method: str
    backbone: str
    cells: Mapping[str, Mapping[str, float]]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """What we hold of Table 1.

    Args:
        source: the paper.
        held: which cells are here, which are not.
        inferred: which variants its columns print, and the evidence for it.
        benchmarks: name -> number of images.
        rows: in the paper's order of methods, VGG-16 before ResNet-50 for Auto-MSFNet.
    """

    source: str
    held: str
    inferred: str
    benchmarks: Mapping[str, int]
    rows: tuple[PaperRow, ...]


@cache
def table1() -> PaperTable:
    """Reads `table1.json` beside this file."""
    content = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    rows = tuple(PaperRow(**row) for row in content["rows"])
    variants = content["variants"]["inferred"]
    return PaperTable(content["source"], content["held"], variants, content["benchmarks"], rows)


def benchmark_of(data_set: str) -> str | None:
    """The benchmark of Table 1 that a data set is, or is a part of; None where it is none of them.

    `ecssd_250` is of ECSSD, `HKU-IS-WI1D` of HKU-IS; `DUTS`, the authors' name, of DUTS-TE.
    """
    plain = _letters(data_set)
    if plain == "duts":
        return "DUTS-TE"
    return next((name for name in table1().benchmarks if plain.startswith(_letters(name))), None)


def paper_rows(data_set: str) -> list[PaperRow]:
    """The rows of Table 1 with a cell for the benchmark that a data set belongs to."""
    benchmark = benchmark_of(data_set)
    return [row for row in table1().rows if benchmark in row.cells]


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
