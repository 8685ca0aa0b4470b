"""What each term of the loss is worth: four losses, three seeds, equal small budgets on the lite network.

    python benchmarks/loss_ablation.py --train DUTS-TR --data ECSSD-250=DIR DUTS-TE-500=DIR PASCAL-S-100=DIR \\
        --encoder-weights FILE

Every run is `train.py` on the same 1,000 images of the training set, 160 pixels, 5 epochs. There is no validation
split, so the last weights are scored and none are chosen. Seeds change initial weights, order and augmentation.
`test.py` scores each run on the parts named by --data and on 500 other images of the training set, `choice`. Where a
variant is chosen, it is chosen there, not on the benchmarks.

It can be stopped at any time; the same command resumes. A run is recognised by the content of its settings, weights
and data (training/run_group.py). Give --precision: `auto` measures, and may choose another one on a busy machine.
Writes loss_ablation.md, loss_ablation.csv with the scores of every run, and loss_ablation.png to runs/benchmarks/.
With --update-docs they go beside this file, and the means on `choice` to docs/loss_terms.csv. The last line printed is
JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, get_args

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import UPDATE_HELP, table_folder
from data.layouts import Pair, find_pairs
from evaluation.tables.scores import short
from evaluation.tables.writer import Table, comma_separated, markdown
from settings.parser import named_folders
from training.run_group import Run, RunGroup, file_content, training_run
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text, write_beside
from utils.hardware import DeviceName, Precision

ROOT = Path(__file__).resolve().parents[1]
ONE_WIDTH, WIDTHS = "[5,5,5]", "[3,5,7]"  # pixels of tolerance of P1, P2, P3


class Variant(NamedTuple):
    """A loss: its name in the table and the settings of train.py that make it."""

    title: str
    settings: tuple[str, ...]


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
MEASURES = {"maxf": "max F", "wfm": "weighted F", "mae": "MAE", "msiou": "MSIoU"}
CHOICE = "choice"
Scores = dict[tuple[str, int], dict[str, dict[str, float]]]
"""Of a variant and a seed: data set -> measure -> value."""


@dataclass(frozen=True)
class Budget:
    """What every run gets."""

    images: int
    size: int
    epochs: int
    batch: int
    precision: str


def main() -> int:
    """Trains and scores what is missing, then writes table and plot."""
    options = parse()
    budget = Budget(options.images, options.size, options.epochs, options.batch, options.precision)
    sets = named_folders(options.data, "--data")
    listed, choice = draw_images(options.train, budget.images, options.choice, options.out)
    group = RunGroup(options.out / "runs", options.jobs)
    runs = [(variant, seed) for seed in range(options.seeds) for variant in options.variants]

    def scored(run: tuple[str, int]) -> dict[str, dict[str, float]]:
        folder = group.complete(training(*run, options, budget, listed))
        return score(group, folder, {**sets, CHOICE: choice}, options)

    with ThreadPoolExecutor(options.jobs) as threads:
        scores = dict(zip(runs, tqdm(threads.map(scored, runs), total=len(runs), disable=None), strict=True))
    table = table_folder(options.update_docs) / "loss_ablation.md"
    report(options.variants, [*sets, CHOICE], scores, table, budget)
    if options.update_docs:
        replace_text(ROOT / "docs" / "loss_terms.csv", terms(options.variants, scores))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--train", type=Path, required=True, help="images and masks to train on, such as DUTS-TR")
    add("--data", nargs="+", required=True, metavar="NAME=DIR", help="what to score on")
    add("--encoder-weights", default="imagenet", help="as train.py's --encoder-weights")
    add("--config", type=Path, default=ROOT / "configs" / "lite.yaml", help="recipe of everything but the loss")
    add("--variants", nargs="+", choices=VARIANTS, default=FOUR)
    add("--seeds", type=int, default=3)
    add("--images", type=int, default=1000, help="to train on")
    add("--choice", type=int, default=500, help="other images of the training set, to choose on")
    add("--size", type=int, default=160)
    add("--epochs", type=int, default=5)
    add("--batch", type=int, default=16)
    add("--device", default="auto", choices=get_args(DeviceName))
    add("--precision", default="auto", choices=get_args(Precision), help="of the trainings")
    add("--jobs", type=int, default=1, help="runs that share the cores")
    add("--engine", default="auto", help="of test.py, which scores the runs")
    add("--out", type=Path, default=Path("runs/loss_ablation"), help="folder of the runs")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    return parser.parse_args()


def draw_images(root: Path, train: int, choice: int, out: Path) -> tuple[Path, Path]:
    """The list of images to train on, and a folder of links to those to choose on: fixed by the names only.

    Raises:
        UserError: the dataset has too few images.
    """
    pairs = find_pairs(root)
    if len(pairs) < train + choice:
        raise UserError(
            f"{root}: {len(pairs)} images, {train} to train on and {choice} to choose on are needed. Lower --images or "
            f"--choice."
        )
    order = [pairs[index] for index in np.random.default_rng(0).permutation(len(pairs))[: train + choice]]
    names = sorted(pair.name for pair in order[:train])
    replace_text(out / "train.txt", "\n".join(names) + "\n")
    for pair in order[train:]:
        link(pair, out / CHOICE)
    return out / "train.txt", out / CHOICE


def link(pair: Pair, folder: Path) -> None:
    """Puts a pair into `folder/images` and `folder/masks`."""
    for kind, source in (("images", pair.image), ("masks", pair.mask)):
        target = (folder / kind / pair.name).with_suffix(source.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.resolve())


def training(variant: str, seed: int, options: argparse.Namespace, budget: Budget, listed: Path) -> Run:
    """The run of train.py with one loss and one seed."""
    return training_run(f"{variant}-{seed}", [
        "--config", options.config, "--data.root", options.train, "--data.list-file", listed, "--data.held-out", 0,
        "--data.size", budget.size, "--data.stages", "[]", "--epochs", budget.epochs, "--batch", budget.batch,
        "--encoder-weights", options.encoder_weights, "--device", options.device, "--seed", seed,
        "--precision", budget.precision,
        *VARIANTS[variant].settings,
    ])  # fmt: skip


def score(
    group: RunGroup, folder: Path, sets: dict[str, Path], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Scores of a finished training on every dataset, by test.py."""
    weights = folder / "best.safetensors"
    data = [f"{name}={root}" for name, root in sets.items()]
    content = {
        "weights": file_content(weights), "device": options.device, "engine": options.engine,
        "data": {name: file_content(root) for name, root in sets.items()},
    }  # fmt: skip
    words = ("--weights", str(weights), "--data", *data, "--device", options.device, "--engine", options.engine)
    tested = group.complete(Run(f"scores-{folder.name}", "test.py", words, content))
    record = json.loads((tested / "results.json").read_text(encoding="utf-8"))
    scored = record.get("sets") or record["jobs"]  # the name in earlier releases
    return {each["name"]: each["scores"] for each in scored}


def report(variants: Sequence[str], sets: Sequence[str], scores: Scores, table: Path, budget: Budget) -> None:
    """Writes table and plot; the last line is JSON."""
    seeds = sorted({seed for _, seed in scores})
    lines = [
        "# What each term of the loss is worth",
        "",
        f"`python benchmarks/loss_ablation.py`: lite network, {budget.images} images, {budget.size} pixels, "
        f"epochs: {budget.epochs}, precision: {budget.precision}, seeds: {len(seeds)}. Mean over the seeds and, after "
        f"±, their standard deviation; in brackets the mean difference to the row above, seed by seed, and its "
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
    write_beside(table.with_suffix(".png"), lambda part: draw(variants, sets, scores, seeds).savefig(part, dpi=130))
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


def values(scores: Scores, variant: str, name: str, measure: str, seeds: Sequence[int]) -> list[float]:
    """One measure of one variant on one set, by seed."""
    return [scores[variant, seed][name][measure] for seed in seeds]


def cell(scores: Scores, variant: str, above: str | None, name: str, measure: str, seeds: Sequence[int]) -> str:
    """Mean and spread, and the difference to the row above."""
    here = values(scores, variant, name, measure, seeds)
    text = f"{mean(here):.4f} ± {spread(here):.4f}"
    if above is None:
        return text
    gains = [one - two for one, two in zip(here, values(scores, above, name, measure, seeds), strict=True)]
    return f"{text} ({mean(gains):+.4f} ± {spread(gains) / len(gains) ** 0.5:.4f})"


def spread(numbers: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 of a single number."""
    return stdev(numbers) if len(numbers) > 1 else 0.0


def draw(variants: Sequence[str], sets: Sequence[str], scores: Scores, seeds: Sequence[int]) -> Figure:
    """A panel a measure: a dot a seed and a bar at their mean, variants side by side, sets as groups."""
    figure = Figure(figsize=(3.2 * len(MEASURES), 3.6), layout="constrained")
    for panel, (measure, label) in zip(np.atleast_1d(figure.subplots(1, len(MEASURES))), MEASURES.items(), strict=True):
        for number, variant in enumerate(variants):
            places = np.arange(len(sets)) + (number - (len(variants) - 1) / 2) * 0.18
            points = np.array([values(scores, variant, name, measure, seeds) for name in sets])  # (sets, seeds)
            panel.scatter(np.repeat(places, len(seeds)), points.ravel(), s=10, color=f"C{number}", alpha=0.6)
            panel.scatter(places, points.mean(1), s=160, marker="_", color=f"C{number}", label=VARIANTS[variant].title)
        panel.set_xticks(range(len(sets)), sets, rotation=20, fontsize=7)
        panel.set_title(f"{label} ({'lower' if measure == 'mae' else 'higher'} is better)", fontsize=9)
        panel.tick_params(axis="y", labelsize=7)
        panel.grid(axis="y", alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
