"""Tables of scores beside the paper's Table 1.

Columns for a terminal, Markdown to read, CSV to compute with (LaTeX: `evaluation.tables.latex`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evaluation.measures import Values, label, lower_is_better
from evaluation.metrics import BOUNDARY_NOTE
from evaluation.table1 import benchmark_of, paper_rows, table1
from evaluation.tables import writer
from evaluation.tables.writer import Table

Interval = tuple[float, float]


@dataclass(frozen=True)
class TableRow:
    """One line of a table.

    Args:
        method: its name.
        values: measure -> value; a measure that is not known is left out.
        measured: by this program; otherwise printed in the paper.
        intervals: measure -> ends of its 95 % interval.
    """

    method: str
    values: Mapping[str, float]
    measured: bool = True
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """The scores on one dataset: measured rows, then those of Table 1 where it has that benchmark."""

    data_set: str
    count: int
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The measures that were computed, in the order of columns."""
        return tuple(dict.fromkeys(key for row in self.rows if row.measured for key in row.values))

    def is_best(self, row: TableRow, key: str) -> bool:
        """Whether a measured value is, as printed, the best of two or more in its column."""
        values = [each.values[key] for each in self.rows if each.measured and key in each.values]
        if not row.measured or key not in row.values or len(values) < 2:
            return False
        best = min(values) if lower_is_better(key) else max(values)
        return short(row.values[key]) == short(best)


def score_table(
    data_set: str,
    count: int,
    measured: Mapping[str, Values],
    intervals: Mapping[str, Mapping[str, Interval]] | None = None,
) -> ScoreTable:
    """Puts measured scores beside the paper's.

    Args:
        data_set: its name; decides which benchmark of Table 1 it is compared with.
        count: maps that were scored.
        measured: method -> measures.
        intervals: method -> measure -> ends of its 95 % interval.
    """
    rows = [TableRow(name, measures, True, (intervals or {}).get(name, {})) for name, measures in measured.items()]
    paper = paper_rows(data_set)
    benchmark = benchmark_of(data_set)
    rows += [
        TableRow(f"{row.method}, {row.backbone} (Table 1)", row.cells[benchmark], False) for row in paper if benchmark
    ]
    return ScoreTable(data_set, count, tuple(rows), tuple(_notes(data_set, count)))


def markdown(tables: Sequence[ScoreTable]) -> str:
    """Every dataset as a table, its intervals below it; the best measured value of a column in bold."""
    parts = [_markdown_table(table) for table in tables]
    if any(benchmark_of(table.data_set) for table in tables):
        parts.append(source_note() + "\n")
    parts.append(BOUNDARY_NOTE + "\n")
    return "\n".join(parts)


def aligned(tables: Sequence[ScoreTable]) -> str:
    """Every dataset as columns under each other, for a terminal; measures under their keys, notes left to Markdown."""
    widest = max((len(row.method) for table in tables for row in table.rows), default=0)
    parts = []
    for table in tables:
        widths = [widest, *(5 for _ in table.keys)]
        cells = printed_cells(table, table.keys, lambda text: text)
        rows = [[row.method, *line] for row, line in zip(table.rows, cells, strict=True)]
        parts.append(writer.aligned(Table([f"{table.data_set} ({table.count} maps)", *table.keys], rows), widths))
    return "\n\n".join(parts)


def comma_separated(tables: Sequence[ScoreTable]) -> str:
    """One line for each method and dataset, with all digits and the ends of the intervals."""
    keys = tuple(dict.fromkeys(key for table in tables for key in table.keys))
    ends = [f"{key}_{end}" for key in keys for end in ("low", "high")]
    lines = []
    for table in tables:
        for row in table.rows:
            bounds = [bound for key in keys for bound in row.intervals.get(key, ("", ""))]
            source = "measured" if row.measured else "paper, Table 1"
            count = table.count if row.measured else ""
            values = [row.values.get(key, "") for key in keys]
            lines.append([table.data_set, count, row.method, source, *values, *bounds])
    return writer.comma_separated(["data_set", "maps", "method", "source", *keys, *ends], lines)


def source_note() -> str:
    """Where the rows of Table 1 come from, what their columns are, and which cells are held."""
    paper = table1()
    return f"Table 1: {paper.source}. {paper.inferred} {paper.held}"


def short(value: float) -> str:
    """Three decimals without the leading zero, as the field prints scores: `.856`."""
    return f"{value:.3f}".removeprefix("0")


def printed_cells(table: ScoreTable, keys: Sequence[str], bold: Callable[[str], str]) -> list[list[str]]:
    """Printed values, row by row; the best measured one of each column in bold, ties too."""

    def cell(row: TableRow, key: str) -> str:
        text = short(row.values[key]) if key in row.values else ""
        return bold(text) if table.is_best(row, key) else text

    return [[cell(row, key) for key in keys] for row in table.rows]


def _notes(data_set: str, count: int) -> list[str]:
    benchmark = benchmark_of(data_set)
    if benchmark is None:
        return []
    whole = table1().benchmarks[benchmark]
    notes = [
        f"{row.method}, {benchmark}: {row.notes[benchmark]}" for row in paper_rows(data_set) if benchmark in row.notes
    ]
    if count != whole:
        part = f"Measured on {count} of the {whole} images of {benchmark}; the rows of Table 1 are of all of them."
        notes.insert(0, part)
    return notes


def _markdown_table(table: ScoreTable) -> str:
    heads = ["method", *(f"{label(key)} {'↓' if lower_is_better(key) else '↑'}" for key in table.keys)]
    cells = printed_cells(table, table.keys, lambda text: f"**{text}**")
    scores = [[row.method, *line] for row, line in zip(table.rows, cells, strict=True)]
    lines = [f"### {table.data_set} ({table.count} maps)", "", writer.markdown(Table(heads, scores))]
    known = [row for row in table.rows if row.intervals]
    if known:
        bounds = [[row.method, *(_range(row, key) for key in table.keys)] for row in known]
        lines += ["", "95 % intervals:", "", writer.markdown(Table(heads, bounds))]
    lines += [line for note in table.notes for line in ("", note)]
    return "\n".join([*lines, ""])


def _range(row: TableRow, key: str) -> str:
    return " to ".join(short(end) for end in row.intervals[key]) if key in row.intervals else ""
