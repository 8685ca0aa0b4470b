"""Scores maps of several methods on several benchmarks: tables, intervals, tests, curves, sheets, one HTML page.

    python evaluate.py --data ECSSD=/data/ECSSD PASCAL-S=/data/PASCAL-S --maps ours=runs/test/maps F3Net=/maps/F3Net

A benchmark is a folder of masks; images beside them are shown in sheets and on the page. The maps of a benchmark NAME
lie in `DIR/NAME`, or in `DIR` itself where there is no such folder. They are named as the masks, or with one common
prefix or suffix (`0001_HS.png`). Into `--out` go
    index.html                   one page with everything: sortable scores, curves, viewer. Needs no network
    tables.md, .tex, .csv        scores with 95 % intervals beside Table 1, comparisons of the methods
    comparisons.csv              paired tests, every measure
    scores/NAME/METHOD.csv       the measures of every map; .json with the curves
    curves/NAME.pdf, .svg        precision-recall, F and E
    sheets/NAME-KIND.pdf         best, median and worst images, largest disagreements
    strata.md, strata/           with --strata: scores by group of images with intervals, the worst images of each
Every mask must have one map of its own size and every map a mask. Otherwise nothing is written, all problems are
listed, and the exit code is 2.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evaluation import measures
from settings.limits import Count, OptionalCount
from settings.parser import Parser, arguments, named_folders
from settings.plugins import run_files
from utils.errors import UserError, exit_on_user_error
from utils.files import remove_parts
from utils.paths import claim, refuse_overlaps

RESAMPLES = 10_000
RANKED_BY = "sm"
"""S is defined on every mask, empty and full ones too, and needs no threshold."""


def main(words: Sequence[str] | None = None) -> int:
    """Gathers, scores, compares, writes; 0 when everything was done."""
    options = _parser().parse_args(words)
    run_files(options.plugins)
    measures.find(options.rank_by)
    data, methods = _named(options.data, "--data"), _named(options.maps, "--maps")

    from evaluation.methods import evaluate, gather
    from evaluation.report.outputs import FILES, FOLDERS, write_all
    from evaluation.report.strata import find_reports
    from evaluation.strata import check_strata
    from evaluation.tables.scores import aligned

    out: Path = options.out
    datasets = gather(data, methods, options.mask_values, options.map_pattern, not options.resize_maps)
    read = [path for each in datasets for path in each.files]
    refuse_overlaps([*data.values(), *methods.values(), *read], [out / name for name in (*FILES, *FOLDERS)])
    if without := [each.name for each in datasets if not each.has_images]:
        print(f"notice: no images of {', '.join(without)}: sheets and the page show none.", file=sys.stderr)
    check_strata(options.strata, [target for each in datasets for target in each.targets])
    evaluated, comparisons = evaluate(datasets, options.workers, options.resize_maps, options.resamples)
    with claim(out):
        remove_parts(out, FOLDERS)
        strata = find_reports(evaluated, options.strata, options.resamples)
        write_all(evaluated, comparisons, out, options.images, options.rank_by, strata)
    print(aligned([each.table() for each in evaluated]))
    print(f"written: {out}/ (open {out / 'index.html'})")
    return 0


def _named(values: Sequence[str], option: str) -> dict[str, Path]:
    """`NAME=DIR` words; the names appear in files and on the page."""
    named = named_folders(values, option)
    for name in named:
        if not name.isprintable():
            raise UserError(f"{option} {name!a}: the name holds control characters. Choose another name.")
    return named


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
    add("--images", type=OptionalCount, default=6, help="of each kind: best, median, worst, disagreement")
    add("--rank-by", default=RANKED_BY, help=f"measure that ranks the images: {', '.join(measures.names())}, or yours")
    add("--map-pattern", metavar="PATTERN", help="name of a map, with {name} for that of its mask, as {name}_HS")
    add(
        "--strata", nargs="+", default=[], type=Literal["area", "count", "contrast", "border"], metavar="KIND",
        help="score by area, count (of objects), contrast (to the background) or border (touched or not)",
    )  # fmt: skip
    add("--plugins", nargs="+", type=Path, default=[], metavar="FILE", help="Python files with further measures")
    add("--workers", type=Count, help="scoring processes; by default one per core")
    return parser


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
