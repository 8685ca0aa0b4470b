"""One table in four formats: Markdown, LaTeX, CSV and columns of aligned text.

A table is made of text cells; the caller decides how many digits a number has. Numbers are aligned to the right.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_LATEX = str.maketrans(
    {letter: rf"\{letter}" for letter in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
MIDRULE = r"\midrule"


@dataclass(frozen=True)
class Table:
    """Heads and rows of text cells.

    Args:
        heads: one for each column.
        rows: as many cells each as there are heads.
        left: columns, counted from the first, that are aligned to the left; the others to the right.

    Raises:
        ValueError: if a row has another number of cells than there are heads.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.heads)} heads: {list(row)}")


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, without a line break at its end. Pipes and line breaks in cells are escaped."""
    rule = ["---" if column < table.left else "---:" for column in range(len(table.heads))]
    lines = [[_markdown_cell(cell) for cell in cells] for cells in (table.heads, *table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def aligned(table: Table, widths: Sequence[int] | None = None, gap: int = 2) -> str:
    """The table as columns of text for a terminal, without a line break at its end.

    Args:
        widths: least width of each column in characters; a wider cell widens its column.
        gap: spaces between two columns.
    """
    lines = [table.heads, *table.rows]
    least = widths or [0] * len(table.heads)
    wide = [max(low, *map(len, column)) for low, column in zip(least, zip(*lines, strict=True), strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if column < table.left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, wide, strict=True))
        ]
        return (" " * gap).join(placed)

    return "\n".join(map(line, lines))


def comma_separated(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with `\\n` as line ends; numbers keep all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def latex(heads: Sequence[str], rows: Sequence[str], columns: str) -> str:
    r"""A `tabular` with the rules of `booktabs`.

    Args:
        heads: the lines of the head, each as `latex_row` or a rule.
        rows: the lines of the body, likewise.
        columns: the column specification, such as `lrr`.
    """
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", *heads, MIDRULE, *rows, r"\bottomrule", end])


def latex_row(cells: Iterable[str]) -> str:
    """One line of a `tabular`; the cells are LaTeX already (see `latex_escape`)."""
    return " & ".join(cells) + r" \\"


def latex_escape(text: str) -> str:
    """`text` as LaTeX prints it."""
    return text.translate(_LATEX)


def _markdown_cell(cell: str) -> str:
    return " ".join(cell.replace("|", r"\|").splitlines())
