"""What each term of the loss is worth: four losses, three seeds, equal small budgets on the lite network.

    python benchmarks/loss_ablation.py --train DUTS-TR --data ECSSD-250=DIR DUTS-TE-500=DIR PASCAL-S-100=DIR \\
        --encoder-weights FILE

1,000 images, 160 pixels, 5 epochs; see benchmarks/ablation.py. Scored on the parts named by --data as well, where
nothing is chosen. Writes loss_ablation.md, loss_ablation.csv with the scores of every run, and loss_ablation.png to
runs/benchmarks/. With --update-docs they go beside this file, and the means on `choice` to docs/loss_terms.csv. The
last line printed is JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ablation import (
    CHOICE,
    MEASURES,
    Budget,
    Scores,
    Variant,
    add_options,
    budget_of,
    cell,
    draw,
    run_all,
    spread,
    values,
)
from benchmarks.tables import UPDATE_HELP, table_folder
from evaluation.tables.scores import short
from evaluation.tables.writer import Table, comma_separated, markdown
from settings.parser import named_folders
from utils.errors import exit_on_user_error
from utils.files import replace_text, write_beside

ROOT = Path(__file__).resolve().parents[1]
ONE_WIDTH, WIDTHS = "[5,5,5]", "[3,5,7]"  # pixels of tolerance of P1, P2, P3
VARIANTS = {
    "bce": Variant("BCE", ("--loss.iou", "0", "--loss.polish", "0")),
    "iou": Variant("BCE + IoU", ("--loss.polish", "0")),
    "polish": Variant("BCE + IoU + polishing, one width", ("--loss.polish", "1", "--loss.theta", ONE_WIDTH)),
    "progressive": Variant("BCE + IoU + polishing, widths 3, 5, 7", ("--loss.polish", "1", "--loss.theta", WIDTHS)),
    # To find out why, should polishing not help as written; not among the four that run by default.
    "half": Variant("progressive, weight 0.5", ("--loss.polish", "0.5", "--loss.theta", WIDTHS)),
    "ramp": Variant("progressive, ramped in", ("--loss.polish", "1", "--loss.theta", WIDTHS, "--loss.ramp", "0.5")),
    "wide": Variant("progressive, widths 5, 9, 13", ("--loss.polish", "1", "--loss.theta", "[5,9,13]")),
}
FOUR = ("bce", "iou", "polish", "progressive")


def main() -> int:
    """Trains and scores what is missing, then writes table and plot."""
    options = parse()
    sets = named_folders(options.data, "--data")
    found = run_all(options, {name: VARIANTS[name] for name in options.variants}, sets)
    scores = {run: one.scores for run, one in found.items()}
    table = table_folder(options.update_docs) / "loss_ablation.md"
    report(options.variants, [*sets, CHOICE], scores, table, budget_of(options))
    if options.update_docs:
        replace_text(ROOT / "docs" / "loss_terms.csv", terms(options.variants, scores))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    recipe = ROOT / "configs" / "loss_ablation.yaml"
    add_options(parser, Budget(1000, 160, 5, 16, "auto"), recipe, Path("runs/loss_ablation"))
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR", help="what to score on")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=FOUR)
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    return parser.parse_args()


def report(variants: Sequence[str], sets: Sequence[str], scores: Scores, table: Path, budget: Budget) -> None:
    """Writes table and plot; the last line is JSON."""
    seeds = sorted({seed for _, seed in scores})
    lines = [
        "# What each term of the loss is worth",
        "",
        f"`python benchmarks/loss_ablation.py`: lite network, {budget}, seeds: {len(seeds)}. Mean over the seeds and, "
        f"after ±, their standard deviation; in brackets the mean difference to the row above, seed by seed, and its "
        f"standard error. `{CHOICE}`: images of the training set that no run saw.",
        "",
        f"![Means and spread](./{table.with_suffix('.png').name})",
    ]
    for name in sets:
        lines += [
            "",
            f"## {name}",
            "",
        ]
        rows = [
            [VARIANTS[variant].title, *(cell(scores, variant, above, name, measure, seeds) for measure in MEASURES)]
            for above, variant in zip([None, *variants], variants, strict=False)
        ]
        lines.append(markdown(Table(["loss", *MEASURES.values()], rows)))
    replace_text(table, "\n".join(lines) + "\n")
    rows = [
        (variant, seed, name, *(scores[variant, seed][name][measure] for measure in MEASURES))
        for variant, seed in scores for name in sets
    ]  # fmt: skip
    replace_text(table.with_suffix(".csv"), comma_separated(["loss", "seed", "part", *MEASURES], rows))
    write_beside(
        table.with_suffix(".png"),
        lambda part: draw({name: VARIANTS[name] for name in variants}, sets, scores, seeds).savefig(part, dpi=130),
    )
    print("\n".join(lines))
    means = {
        f"{variant}/{name}/{measure}": round(mean(values(scores, variant, name, measure, seeds)), 4)
        for variant in variants for name in sets for measure in MEASURES
    }  # fmt: skip
    print(json.dumps(means))


def terms(variants: Sequence[str], scores: Scores) -> str:
    """The means on `choice` and their standard deviations, as CSV."""
    seeds = sorted({seed for _, seed in scores})
    rows = []
    for variant in variants:
        found = [values(scores, variant, CHOICE, measure, seeds) for measure in MEASURES]
        rows.append([VARIANTS[variant].title, *(f"{short(mean(each))} ± {short(spread(each))}" for each in found)])
    return comma_separated(["loss", *MEASURES.values()], rows)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
