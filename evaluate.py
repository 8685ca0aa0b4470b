"""Scores maps of several methods on several benchmarks: tables, intervals, tests, curves, sheets, one HTML page.

    python evaluate.py --data ECSSD=/data/ECSSD PASCAL-S=/data/PASCAL-S --maps ours=runs/test/maps F3Net=/maps/F3Net

The maps of a benchmark NAME lie in `DIR/NAME`, or in `DIR` itself where there is no such folder. Into `--out` go
    index.html                   one page with everything: sortable scores, curves, viewer. Needs no network
    tables.md, .tex, .csv        scores with 95 % intervals beside Table 1, comparisons of the methods
    comparisons.csv              paired tests, every measure
    scores/NAME/METHOD.csv       the measures of every map; .json with the curves
    curves/NAME.pdf, .svg        precision-recall, F and E
    sheets/NAME-KIND.pdf         best, median and worst images, largest disagreements
Every mask must have one map of its own size and every map a mask; otherwise nothing is written, all problems are
listed, and the exit code is 2.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation import measures
from utils.config import Parser, arguments, named_folders
from utils.errors import exit_on_user_error
from utils.plugins import run_files
from utils.settings import Count, OptionalCount

RESAMPLES = 10_000
RANKED_BY = "sm"
"""S is defined on every mask, empty and full ones too, and needs no threshold."""


def main(words: Sequence[str] | None = None) -> int:
    """Gathers, scores, compares, writes; 0 when everything was done."""
    options = _parser().parse_args(words)
    run_files(options.plugins)
    measures.find(options.rank_by)
    data, methods = named_folders(options.data, "--data"), named_folders(options.maps, "--maps")

    from evaluation.methods import evaluate, gather
    from evaluation.report.outputs import write_all
    from evaluation.tables.scores import aligned

    evaluated, comparisons = evaluate(
        gather(data, methods, options.mask_values), options.workers, options.resize_maps, options.resamples
    )
    write_all(evaluated, comparisons, options.out, options.images, options.rank_by)
    print(aligned([each.table() for each in evaluated]))
    print(f"written: {options.out}/ (open {options.out / 'index.html'})")
    return 0


def _parser() -> Parser:
    parser = arguments(__doc__, "evaluate.py")
    add = parser.add_argument
    add("--data", nargs="+", action="extend", required=True, metavar="NAME=DIR", help="benchmarks")
    add("--maps", nargs="+", action="extend", required=True, metavar="METHOD=DIR", help="maps")
    add("--out", type=Path, default=Path("runs/evaluation"), help="folder for what is written")
    add(
        "--resize-maps",
        action="store_true",
        help="bring maps of another size to their mask's (bilinear, then 8 bits), as PySODEvalToolkit does",
    )
    add("--mask-values", default="auto", help="foreground in masks: auto, nonzero, alpha or values such as 1,128..255")
    add("--resamples", type=OptionalCount, default=RESAMPLES, help="of intervals and tests; 0: neither")
    add("--images", "--pictures", type=OptionalCount, default=6, help="of each kind: best, median, worst, disagreement")
    add("--rank-by", default=RANKED_BY, help=f"measure that ranks the images: {', '.join(measures.names())}, or yours")
    add("--plugins", nargs="+", type=Path, default=[], metavar="FILE", help="Python files with further measures")
    add("--workers", type=Count, help="scoring processes; by default one per core")
    return parser


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
