r"""The score tables in LaTeX, to be pasted into a paper. They need `\usepackage{booktabs,graphicx}`.

They span both columns of a page, and are shrunk where they are wider than it.
"""

from collections.abc import Iterable, Sequence

from evaluation.measures import label, lower_is_better
from evaluation.tables.scores import ScoreTable, TableRow, printed_cells, short
from evaluation.tables.writer import MIDRULE, latex_escape, latex_row
from evaluation.tables.writer import latex as tabular

TABLE1_KEYS = ("adpf", "wfm", "mae", "adpe")
"""The columns of Table 1, in its order."""

_SYMBOLS = {
    "mae": "M",
    "sm": r"S_\alpha",
    "wfm": r"F_\beta^\omega",
    "adpf": r"F_\beta^\mathrm{adp}",
    "meanf": r"F_\beta^\mathrm{mean}",
    "maxf": r"F_\beta^\mathrm{max}",
    "adpe": r"E_\gamma^\mathrm{adp}",
    "meane": r"E_\gamma^\mathrm{mean}",
    "maxe": r"E_\gamma^\mathrm{max}",
    "msiou": r"\mathrm{MSIoU}",
}
_UNKNOWN = "--"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_PAPER = (
    " (Table 1): as printed in the Auto-MSFNet paper (Zhang et al., ACM MM 2021), "
    "which does not name the variants; they are inferred."
)


def latex(tables: Sequence[ScoreTable]) -> str:
    """One table in the manner of Table 1 over all datasets, then one of each dataset with every measure
    and its intervals.

    The captions name the variant behind every symbol. The best measured value of a column is bold.
    """
    return "\n".join([_overview(tables), *(_full(table) for table in tables)])


def _overview(tables: Sequence[ScoreTable]) -> str:
    cells = [_by_method(table, TABLE1_KEYS) for table in tables]
    measured = _methods(tables, measured=True)
    paper = _methods(tables, measured=False)
    nothing = [_UNKNOWN] * len(TABLE1_KEYS)
    lines = [
        latex_row([latex_escape(method), *(cell for known in cells for cell in known.get(method, nothing))])
        for method in [*measured, *paper]
    ]
    if paper:
        lines.insert(len(measured), MIDRULE)
    spans = [(2 + 4 * i, 5 + 4 * i) for i in range(len(tables))]
    head = [
        latex_row(["", *(rf"\multicolumn{{4}}{{c}}{{{latex_escape(table.data_set)}}}" for table in tables)]),
        " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for first, last in spans),
        latex_row(["Method", *(_head(key) for _ in tables for key in TABLE1_KEYS)]),
    ]
    counts = ", ".join(f"{latex_escape(table.data_set)} ({table.count} maps)" for table in tables)
    caption = f"Scores on {counts}. {_legend(TABLE1_KEYS)}{_remarks(tables)}"
    return _frame("l" + "r" * 4 * len(tables), head, lines, caption)


def _full(table: ScoreTable) -> str:
    cells = _by_method(table, table.keys)
    measured, paper = (
        [line for row in table.rows if row.measured == kind for line in _lines(row, table.keys, cells[row.method])]
        for kind in (True, False)
    )
    head = [latex_row(["Method", *(_head(key) for key in table.keys)])]
    bounds = " Small: 95\\,\\% intervals." if any(row.intervals for row in table.rows) else ""
    caption = f"{latex_escape(table.data_set)}, {table.count} maps. {_legend(table.keys)}{bounds}{_remarks([table])}"
    return _frame("l" + "r" * len(table.keys), head, [*measured, *([MIDRULE, *paper] if paper else [])], caption)


def _lines(row: TableRow, keys: Sequence[str], cells: Sequence[str]) -> list[str]:
    """A method's line, and one with its intervals if it has them."""
    lines = [latex_row([latex_escape(row.method), *cells])]
    if row.intervals:
        bounds = (
            rf"\scriptsize {'--'.join(map(short, row.intervals[key]))}" if key in row.intervals else "" for key in keys
        )
        lines.append(latex_row(["", *bounds]))
    return lines


def _methods(tables: Sequence[ScoreTable], measured: bool) -> list[str]:
    names = (row.method for table in tables for row in table.rows if row.measured == measured)
    return list(dict.fromkeys(names))


def _by_method(table: ScoreTable, keys: Sequence[str]) -> dict[str, list[str]]:
    cells = printed_cells(table, keys, lambda text: rf"\textbf{{{text}}}")
    known = [[cell or _UNKNOWN for cell in line] for line in cells]
    return {row.method: line for row, line in zip(table.rows, known, strict=True)}


def _symbol(key: str) -> str:
    """The measure in mathematics; a registered one by its name."""
    return _SYMBOLS.get(key, rf"\mathrm{{{latex_escape(key)}}}")


def _head(key: str) -> str:
    return rf"${_symbol(key)}\{'downarrow' if lower_is_better(key) else 'uparrow'}$"


def _legend(keys: Iterable[str]) -> str:
    """Which variant each symbol means."""
    text = "; ".join(f"${_symbol(key)}$: {latex_escape(label(key))}" for key in keys)
    return text.replace(r"beta\textasciicircum{}2", r"$\beta^2$").replace("alpha=", r"$\alpha$=") + "."


def _remarks(tables: Sequence[ScoreTable]) -> str:
    """Notes of the tables, and what the rows of Table 1 are in a paper that has another one."""
    paper = any(not row.measured for table in tables for row in table.rows)
    return (_PAPER if paper else "") + "".join(f" {latex_escape(note)}" for table in tables for note in table.notes)


def _frame(columns: str, head: Sequence[str], lines: Sequence[str], caption: str) -> str:
    top = [r"\begin{table*}", r"\centering", rf"\caption{{{caption}}}"]
    return "\n".join([*top, _FIT, tabular(head, lines, columns) + "}", r"\end{table*}", ""])
