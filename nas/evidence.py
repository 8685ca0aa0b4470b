"""The evidence of a comparison as committed files: one row a training, the genotypes, and the supernets' scores.

    trainings.csv   group, genotype, search_seed, training_seed, gmac, dilated, wfm_validation, wfm_ecssd, wfm_duts
    searches.csv    group, search_seed, key: searches that are done; key is that of their Run
    genotypes/      <group>_<genotype>.json for each genotype of both tables
    supernet.csv    group, search_seed, genotype, score, predicted: of the pool's genotypes by a supernet of `oneshot`
    mixtures/       <group>_<search seed>.csv: weights that a search by `darts` ended with, a line an edge
    budget.json     what all rows have in common

Rows are replaced, never mixed: a table that was made with another budget is refused.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas.genotype_space import dilated
from nas.results import Result, ResultsError, refuse_other_budget
from net.genotype import CellGenotype, Genotype, load
from utils.files import replace_text

COLUMNS = {"wfm_validation": "held-out", "wfm_ecssd": "ECSSD", "wfm_duts": "DUTS-TE"}
"""Column of trainings.csv -> dataset of the comparison."""


@dataclass(frozen=True)
class Training:
    """One row of trainings.csv.

    Attributes:
        group: random, published, undilated, homogeneous, or the variant of a search.
        genotype: name within the group.
        search_seed: of the search that found it; None for a genotype that no search made.
        training_seed: of the training.
        gmac: multiply-accumulates of the whole network on one image, in billions.
        dilated: edges with a dilated operation, of 31.
        wfm_validation: weighted F on the images of the training dataset that nothing saw.
        wfm_ecssd, wfm_duts: weighted F on the benchmarks; None if not scored.
    """

    group: str
    genotype: str
    search_seed: int | None
    training_seed: int
    gmac: float
    dilated: int
    wfm_validation: float
    wfm_ecssd: float | None
    wfm_duts: float | None

    @property
    def key(self) -> tuple[str, str, int]:
        """The key of a row."""
        return self.group, self.genotype, self.training_seed


@dataclass(frozen=True)
class SupernetScore:
    """One row of supernet.csv: a genotype of the pool as a supernet that was trained by single paths sees it.

    Attributes:
        group, search_seed: of the search.
        genotype: `random_<number>`.
        score: P1 IoU of the sub-network.
        predicted: the same, as the linear model of the scores of other sub-networks expects it.
    """

    group: str
    search_seed: int
    genotype: str
    score: float
    predicted: float


@dataclass(frozen=True)
class FinishedSearch:
    """One row of searches.csv: a search by its group and seed, and the key of its Run, which names its content."""

    group: str
    search_seed: int
    key: str


def training_of(result: Result, genotype: Genotype, search_seed: int | None) -> Training:
    """The row of a result."""
    scores = {name: round(value["wfm"], 6) for name, value in result.scores.items()}
    validation, ecssd, duts = COLUMNS.values()
    return Training(
        result.group, result.name, search_seed, result.seed, round(result.gmac, 6), dilated(genotype),
        scores[validation], scores.get(ecssd), scores.get(duts),
    )  # fmt: skip


def read_trainings(folder: Path) -> list[Training]:
    """Rows of trainings.csv; none if there is no such file.

    Raises:
        ResultsError: naming the file and what is wrong with it.
    """
    return _read(folder / "trainings.csv", Training)


def read_supernet(folder: Path) -> list[SupernetScore]:
    """Rows of supernet.csv; none if there is no such file.

    Raises:
        ResultsError: naming the file and what is wrong with it.
    """
    return _read(folder / "supernet.csv", SupernetScore)


def read_searches(folder: Path) -> list[FinishedSearch]:
    """Rows of searches.csv; none if there is no such file.

    Raises:
        ResultsError: naming the file and what is wrong with it.
    """
    return _read(folder / "searches.csv", FinishedSearch)


def genotypes_of(folder: Path) -> dict[tuple[str, str], Genotype]:
    """(group, genotype) -> its operations, for every genotype of trainings.csv.

    Raises:
        GenotypeError: if a file is missing or invalid.
    """
    wanted = dict.fromkeys((row.group, row.genotype) for row in read_trainings(folder))
    return {key: load(genotype_file(folder, *key)) for key in wanted}


def taken(folder: Path, wanted: Sequence[str]) -> dict[tuple[str, str], tuple[Genotype, int | None]]:
    """(group, genotype) -> its operations and the seed of its search; nothing where nothing is wanted.

    Args:
        folder: of the evidence.
        wanted: groups (`oneshot`) or single genotypes (`oneshot_0`).

    Raises:
        ResultsError: if something wanted is not there.
    """
    rows = read_trainings(folder) if wanted else []
    known = {key: row for row in rows for key in (row.group, f"{row.group}_{row.genotype}")}
    if missing := [name for name in wanted if name not in known]:
        groups = ", ".join(sorted({row.group for row in rows}))
        raise ResultsError(
            f"taken: {folder} has no '{missing[0]}'. Name a genotype there or one of its groups: {groups}."
        )
    seeds = {
        (row.group, row.genotype): row.search_seed
        for row in rows
        if {row.group, f"{row.group}_{row.genotype}"} & set(wanted)
    }
    return {key: (load(genotype_file(folder, *key)), seed) for key, seed in seeds.items()}


def genotypes_by_training(folder: Path) -> dict[tuple[str, str, int], tuple[CellGenotype, ...]]:
    """The cells of every row of trainings.csv, by its key.

    Raises:
        GenotypeError: if a file is missing or invalid.
    """
    genotypes = genotypes_of(folder)
    return {row.key: genotypes[row.group, row.genotype].cells for row in read_trainings(folder)}


def genotype_file(folder: Path, group: str, name: str) -> Path:
    """Where the evidence keeps a genotype."""
    return folder / "genotypes" / f"{group}_{name}.json"


def mixture_file(folder: Path, group: str, search_seed: int) -> Path:
    """Where the evidence keeps the weights that a search by `darts` ended with."""
    return folder / "mixtures" / f"{group}_{search_seed}.csv"


def read_mixtures(folder: Path, group: str) -> dict[int, NDArray[np.float64]]:
    """Search seed -> weights that a search of the group ended with, (31, operations); nothing if there are none.

    Raises:
        ResultsError: naming the file that can't be read.
    """
    found = {}
    for search in read_searches(folder):
        path = mixture_file(folder, group, search.search_seed)
        if search.group == group and path.is_file():
            try:
                found[search.search_seed] = np.loadtxt(path, delimiter=",", ndmin=2)
            except ValueError as error:
                raise ResultsError(f"{path}: {error}. Restore it from version control.") from None
    return found


def check_budget(folder: Path, budget: Mapping[str, Any]) -> None:
    """Refuses to add rows of another budget to a table.

    Raises:
        ResultsError: naming the file, what differs and both values; or that it can't be read.
    """
    known = folder / "budget.json"
    if not known.is_file():
        return
    try:
        before = dict(json.loads(known.read_text("utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ResultsError(
            f"{known}: can't be read ({error}). Restore it, or start another folder with evidence."
        ) from error
    refuse_other_budget(before, budget, str(known))


def add_trainings(
    folder: Path, rows: Sequence[Training], genotypes: Mapping[tuple[str, str], Genotype], budget: Mapping[str, Any]
) -> None:
    """Writes rows into trainings.csv in the place of those with the same group, genotype and training seed.

    Raises:
        ResultsError: see `check_budget`.
    """
    check_budget(folder, budget)
    replace_text(folder / "budget.json", json.dumps(dict(budget), indent=1, sort_keys=True) + "\n")
    merged = {row.key: row for row in [*read_trainings(folder), *rows]}
    write_trainings(folder, merged.values(), genotypes)


def write_trainings(folder: Path, rows: Iterable[Training], genotypes: Mapping[tuple[str, str], Genotype]) -> None:
    """Writes trainings.csv with these rows, sorted as given, and the genotypes by (group, name)."""
    for (group, name), genotype in genotypes.items():
        replace_text(genotype_file(folder, group, name), genotype.to_json())
    _write(folder / "trainings.csv", Training, rows)


def add_search(
    folder: Path,
    search: FinishedSearch,
    genotype: Genotype,
    scores: Mapping[str, tuple[float, float]],
    mixture: Tensor | None = None,
) -> None:
    """Keeps a finished search: its row of searches.csv, its genotype, and what its supernet says of the pool.

    Args:
        folder: of the evidence.
        search: replaces the row of the same group and seed.
        genotype: what it found.
        scores: genotype of the pool -> score and prediction; empty for a search without a supernet.
        mixture: (31, operations), the weights that the genotype was derived from; None for a search without them.
    """
    replace_text(genotype_file(folder, search.group, str(search.search_seed)), genotype.to_json())
    rows = [SupernetScore(search.group, search.search_seed, name, *values) for name, values in scores.items()]
    if rows:
        add_supernet(folder, rows)
    if mixture is not None:
        lines = (",".join(f"{weight:.5f}" for weight in edge) + "\n" for edge in mixture.tolist())
        replace_text(mixture_file(folder, search.group, search.search_seed), "".join(lines))
    merged = {(row.group, row.search_seed): row for row in [*read_searches(folder), search]}
    _write(folder / "searches.csv", FinishedSearch, merged.values())


def add_supernet(folder: Path, rows: Sequence[SupernetScore]) -> None:
    """Writes rows into supernet.csv in the place of those with the same group, search seed and genotype."""
    merged = {(row.group, row.search_seed, row.genotype): row for row in [*read_supernet(folder), *rows]}
    _write(folder / "supernet.csv", SupernetScore, merged.values())


def _read(path: Path, kind: type[Any]) -> list[Any]:
    if not path.is_file():
        return []
    rows, names = [], [field.name for field in fields(kind)]
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != names:
            raise ResultsError(f"{path}: its columns are {reader.fieldnames}, expected {', '.join(names)}.")
        for number, record in enumerate(reader, 2):
            try:
                rows.append(kind(**{field.name: _value(str(field.type), record[field.name]) for field in fields(kind)}))
            except (TypeError, ValueError) as error:
                raise ResultsError(f"{path}: line {number}: {error}.") from None
    return rows


def _value(kind: str, text: str) -> Any:
    """The value of a cell; `kind` is the annotation of its field."""
    if "None" in kind and not text:
        return None
    if "str" in kind:
        return text
    return int(text) if "int" in kind else float(text)


def _write(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in asdict(row).items()} for row in rows)
    replace_text(path, text.getvalue())
