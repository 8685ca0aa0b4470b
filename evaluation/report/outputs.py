"""All files of an evaluation, written below one folder, each whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.comparison import Comparison, comparison_csv, comparison_markdown
from evaluation.methods import Evaluated
from evaluation.report.curves import draw_curves
from evaluation.report.figures import rendered
from evaluation.report.page import write_page
from evaluation.report.selection import select
from evaluation.report.sheets import draw_sheet
from evaluation.report.strata import StrataReport, write_strata
from evaluation.score_files import write_csv, write_json
from evaluation.tables.latex import latex
from evaluation.tables.scores import comma_separated, markdown
from utils.files import replace_bytes, replace_text

FILES = ("index.html", "tables.md", "tables.tex", "tables.csv", "comparisons.csv", "strata.md")
FOLDERS = ("scores", "curves", "sheets", "strata")
"""What an evaluation writes below its folder."""


def write_all(
    evaluated: Sequence[Evaluated],
    comparisons: Sequence[Comparison],
    out: Path,
    images: int,
    rank_by: str,
    strata: Sequence[StrataReport] = (),
) -> None:
    """Writes scores, tables, figures and the page.

    Args:
        out: the folder.
        images: of each kind and dataset, in sheets and on the page.
        rank_by: measure that ranks them.
        strata: of the datasets, see `evaluation.report.strata.find_reports`.
    """
    write_scores(evaluated, out)
    write_tables(evaluated, comparisons, out)
    write_figures(evaluated, images, rank_by, out)
    write_strata(strata, evaluated, rank_by, out)
    write_page(evaluated, comparisons, images, out / "index.html", rank_by=rank_by, strata=strata)


def write_scores(evaluated: Sequence[Evaluated], out: Path) -> None:
    """`scores/NAME/METHOD.csv` and `.json`: the measures of every map."""
    for each in evaluated:
        for method, scores in each.scores.items():
            folder = out / "scores" / each.data_set.name
            write_csv(scores, folder / f"{method}.csv")
            write_json(scores, folder / f"{method}.json")


def write_tables(evaluated: Sequence[Evaluated], comparisons: Sequence[Comparison], out: Path) -> None:
    """`tables.md`, `tables.tex`, `tables.csv`, and `comparisons.csv` where methods were compared."""
    tables = [each.table() for each in evaluated]
    replace_text(out / "tables.md", markdown(tables) + "\n" + comparison_markdown(comparisons))
    replace_text(out / "tables.tex", latex(tables))
    replace_text(out / "tables.csv", comma_separated(tables))
    if comparisons:
        replace_text(out / "comparisons.csv", comparison_csv(comparisons))


def write_figures(evaluated: Sequence[Evaluated], images: int, rank_by: str, out: Path) -> None:
    """`curves/NAME.pdf`, `.svg` and `sheets/NAME-KIND.pdf`."""
    for each in evaluated:
        name = each.data_set.name
        curves = draw_curves(name, {method: scores.curves for method, scores in each.scores.items()})
        replace_bytes(out / "curves" / f"{name}.pdf", rendered(curves, "pdf", transparent=True))
        replace_bytes(out / "curves" / f"{name}.svg", rendered(curves, "svg", transparent=True))
        selection = select(each, images, rank_by)
        for kind, places in selection.kinds.items() if images and each.data_set.has_images else ():
            sheet = draw_sheet(each, places, selection.rule(kind), rank_by)
            replace_bytes(out / "sheets" / f"{name}-{kind}.pdf", rendered(sheet, "pdf", transparent=True))
