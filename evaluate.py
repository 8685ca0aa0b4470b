"""Scores maps of several methods on several benchmarks: tables, intervals, tests, curves, sheets, one HTML page.

    python evaluate.py --data ECSSD=/data/ECSSD PASCAL-S=/data/PASCAL-S --maps ours=runs/test/maps F3Net=/maps/F3Net

The maps of a benchmark NAME lie in `DIR/NAME`, or in `DIR` itself where there is no such folder. Into `--out` go
    index.html                   one page with everything: sortable scores, curves, viewer. Needs no network
    tables.md, .tex, .csv        scores with 95 % intervals beside Table 1, comparisons of the methods
    comparisons.csv              paired tests, every measure
    scores/NAME/METHOD.csv       the measures of every map; .json with the curves
    curves/NAME.pdf, .svg        precision-recall, F and E
    sheets/NAME-KIND.pdf         best, median and worst pictures, largest disagreements
Every picture must have one map of its own size and every map a picture; otherwise nothing is written, all that is wrong
is listed, and the exit code is 2.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.comparison import Comparison, comparison_csv, comparison_markdown
from evaluation.methods import Evaluated, evaluate, gather
from evaluation.metrics import KEYS
from evaluation.report.curves import draw_curves
from evaluation.report.figures import rendered
from evaluation.report.page import write_page
from evaluation.report.selection import KINDS, RANKED_BY, select
from evaluation.report.sheets import draw_sheet
from evaluation.score_files import write_csv, write_json
from evaluation.statistics import RESAMPLES
from evaluation.tables.latex import latex
from evaluation.tables.scores import aligned, comma_separated, markdown
from utils.config import named_folders
from utils.errors import exit_on_user_error
from utils.files import replace_bytes, replace_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Gathers, scores, compares, writes; 0 when everything was done."""
    options = _parser().parse_args(arguments)
    data, methods = named_folders(options.data, "--data"), named_folders(options.maps, "--maps")
    data_sets = gather(data, methods)
    evaluated, comparisons = evaluate(data_sets, options.workers, options.resize_maps, options.resamples)
    write_scores(evaluated, options.out)
    write_tables(evaluated, comparisons, options.out)
    write_figures(evaluated, options.pictures, options.rank_by, options.out)
    write_page(evaluated, comparisons, options.pictures, options.out / "index.html", rank_by=options.rank_by)
    print(aligned([each.table() for each in evaluated]))
    print(f"written: {options.out}/ (open {options.out / 'index.html'})")
    return 0


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


def write_figures(evaluated: Sequence[Evaluated], pictures: int, rank_by: str, out: Path) -> None:
    """`curves/NAME.pdf`, `.svg` and `sheets/NAME-KIND.pdf`."""
    for each in evaluated:
        name = each.data_set.name
        curves = draw_curves(name, {method: scores.curves for method, scores in each.scores.items()})
        replace_bytes(out / "curves" / f"{name}.pdf", rendered(curves, "pdf", transparent=True))
        replace_bytes(out / "curves" / f"{name}.svg", rendered(curves, "svg", transparent=True))
        selection = select(each, pictures, rank_by)
        for kind, places in selection.kinds.items() if pictures else ():
            sheet = draw_sheet(each, places, selection.rule(kind), rank_by)
            replace_bytes(out / "sheets" / f"{name}-{kind}.pdf", rendered(sheet, "pdf", transparent=True))


def _count(least: int) -> Callable[[str], int]:
    """A whole number of the command line, no smaller than `least`."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} on")
        return int(text)

    return count


def _parser() -> argparse.ArgumentParser:
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "evaluate.py", description=heading, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", action="extend", required=True, metavar="NAME=DIR", help="benchmarks")
    parser.add_argument("--maps", nargs="+", action="extend", required=True, metavar="METHOD=DIR", help="maps")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"), help="folder for what is written")
    parser.add_argument(
        "--resize-maps",
        action="store_true",
        help="bring maps of another size to their mask's (bilinear, then 8 bits), as PySODEvalToolkit does",
    )
    parser.add_argument("--resamples", type=_count(0), default=RESAMPLES, help="of intervals and tests; 0: neither")
    parser.add_argument("--pictures", type=_count(0), default=6, help=f"of each kind: {', '.join(KINDS)}")
    parser.add_argument("--rank-by", choices=KEYS, default=RANKED_BY, help="measure that ranks the pictures")
    parser.add_argument("--workers", type=_count(1), help="scoring processes; by default one per core")
    return parser


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
