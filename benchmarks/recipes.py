"""What each choice of the recipe of lite is worth: one thing changed at a time, three seeds, equal small budgets.

    python benchmarks/recipes.py --train DUTS-TR --encoder-weights FILE --precision fp32 --update-docs

1,500 images, 128 pixels, 4 epochs; see benchmarks/ablation.py. Scored on 500 other images of the training set alone, so
nothing is chosen on a benchmark. Writes recipes.csv with the scores of every run to runs/benchmarks/, or beside this
file with --update-docs; then the table goes to docs/recipes.csv. The last line printed is JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ablation import (
    CHOICE,
    MEASURES,
    Budget,
    Finished,
    Variant,
    add_options,
    budget_of,
    difference,
    run_all,
    values,
)
from benchmarks.tables import UPDATE_HELP, table_folder
from evaluation.tables.writer import Table, comma_separated, markdown
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "recipe"
VARIANTS = {
    RECIPE: Variant("the recipe"),
    "no_attention": Variant("no attention on E5", ("--network.context", "none")),
    "gate": Variant("a gate instead of the attention", ("--network.context", "gate")),
    "crop": Variant("crops up to 1/8 instead of .4", ("--data.augment.crop", "0.125")),
    "sizes": Variant("three sizes instead of one", ("--data.stages", "[{start: 0.0, sizes: [96, 128, 160]}]")),
    "no_average": Variant("last weights instead of averaged ones", ("--average.decay", "0")),
    "published": Variant("published cells, twice the decoder's multiply-adds", ("--network.genotype", "resnet50")),
}
DISTILLED = {"distilled": "0.5", "distilled_lightly": "0.2"}
"""Variant with a teacher's soft maps -> their share of the loss."""
HEADS = ["changed", "weighted F", "less the recipe", "max F", "MAE", "speed"]


def main(words: list[str] | None = None) -> int:
    """Trains and scores what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, Budget(1500, 128, 4, 16, "auto"), ROOT / "configs" / "lite.yaml", Path("runs/recipes"))
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, *DISTILLED], default=[*VARIANTS])
    parser.add_argument("--soft-maps", type=Path, metavar="DIR", help="of a teacher, for --variants distilled")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    variants = variants_of(options)
    found = run_all(options, variants, {})
    rows = [table_row(name, variants[name].title, found) for name in variants]
    scores = [
        (name, seed, *(one.scores[CHOICE][measure] for measure in MEASURES)) for (name, seed), one in found.items()
    ]
    folder = table_folder(options.update_docs)
    replace_text(folder / "recipes.csv", comma_separated(["variant", "seed", *MEASURES], scores))
    if options.update_docs:
        replace_text(ROOT / "docs" / "recipes.csv", comma_separated(HEADS, rows))
    print(f"{budget_of(options)}, seeds: {options.seeds}\n")
    print(markdown(Table(HEADS, rows)))
    print(json.dumps({name: round(mean(scored(name, found, "wfm")), 4) for name in variants}))
    return 0


def variants_of(options: argparse.Namespace) -> dict[str, Variant]:
    """The recipe, then what was asked for.

    Raises:
        UserError: a teacher is needed and its maps are not given.
    """
    names = dict.fromkeys([RECIPE, *options.variants])
    return {name: distilled(name, options.soft_maps) if name in DISTILLED else VARIANTS[name] for name in names}


def distilled(name: str, soft_maps: Path | None) -> Variant:
    """A variant with a teacher.

    Raises:
        UserError: its maps are not given.
    """
    if soft_maps is None:
        raise UserError(f"--variants {name}: it needs a teacher's maps. Give --soft-maps DIR.")
    share = DISTILLED[name]
    settings = ("--distillation.maps", str(soft_maps), "--distillation.weight", share)
    return Variant(f"a teacher's soft maps, {share} of the loss", settings)


def table_row(name: str, title: str, found: Mapping[tuple[str, int], Finished]) -> list[str]:
    """Means over the seeds; weighted F less the recipe's seed by seed, with its standard error."""
    less = "" if name == RECIPE else difference(scored(name, found, "wfm"), scored(RECIPE, found, "wfm"))
    means = [f"{mean(scored(name, found, measure)):.4f}" for measure in ("wfm", "maxf", "mae")]
    ratio = speed(name, found) / speed(RECIPE, found)
    return [title, means[0], less, *means[1:], f"{ratio:.2f} x"]


def scored(name: str, found: Mapping[tuple[str, int], Finished], measure: str) -> list[float]:
    """One measure on the images to choose on, by seed."""
    seeds = sorted({seed for _, seed in found})
    return values({run: one.scores for run, one in found.items()}, name, CHOICE, measure, seeds)


def speed(name: str, found: Mapping[tuple[str, int], Finished]) -> float:
    """Images a second in training: the median of the log, over all seeds."""
    lines = [
        json.loads(line)
        for (variant, _), one in found.items() if variant == name
        for line in (one.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]  # fmt: skip
    return median(line["train/images_per_s"] for line in lines if "train/images_per_s" in line)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
