"""Ablations: variants of a recipe, several seeds, the same small budget. What loss_ablation.py and recipes.py share.

Every run is `train.py` on the same images of the training set. There is no validation split, so the last weights are
scored and none are chosen. Seeds change initial weights, order and augmentation. `test.py` scores each run on other
images of the training set, `choice`, where a variant is chosen, and on the parts that the program names.

A run is recognised by the content of its settings, weights and data (training/run_group.py), so a program can be
stopped at any time and the same command resumes. Give --precision: `auto` measures, and may choose another one on a
busy machine.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, get_args

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from data.layouts import Pair, find_pairs
from training.run_group import Run, RunGroup, file_content, side_by_side, training_run
from utils.errors import UserError
from utils.files import replace_text
from utils.hardware import DeviceName, Precision

MEASURES = {"maxf": "max F", "wfm": "weighted F", "mae": "MAE", "msiou": "MSIoU"}
CHOICE = "choice"
Scores = dict[tuple[str, int], dict[str, dict[str, float]]]
"""Of a variant and a seed: data set -> measure -> value."""


class Variant(NamedTuple):
    """What is varied: its name in the table and the settings of train.py that make it."""

    title: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """What every run gets."""

    images: int
    size: int
    epochs: int
    batch: int
    precision: str

    def __str__(self) -> str:
        return f"{self.images} images, {self.size} pixels, epochs: {self.epochs}, precision: {self.precision}"


class Finished(NamedTuple):
    """A training that is done: its folder, and its scores by data set."""

    folder: Path
    scores: dict[str, dict[str, float]]


def add_options(parser: argparse.ArgumentParser, budget: Budget, recipe: Path, out: Path) -> None:
    """The options that every ablation has, with its own defaults."""
    add = parser.add_argument
    add("--train", type=Path, required=True, help="images and masks to train on, such as DUTS-TR")
    add("--encoder-weights", default="imagenet", help="as train.py's --encoder-weights")
    add("--config", type=Path, default=recipe, help="recipe of everything that is not varied")
    add("--seeds", type=int, default=3)
    add("--images", type=int, default=budget.images, help="to train on")
    add("--choice", type=int, default=500, help="other images of the training set, to choose on")
    add("--size", type=int, default=budget.size)
    add("--epochs", type=int, default=budget.epochs)
    add("--batch", type=int, default=budget.batch)
    add("--device", default="auto", choices=get_args(DeviceName))
    add("--precision", default=budget.precision, choices=get_args(Precision), help="of the trainings")
    add("--jobs", type=int, default=1, help="runs that share the cores")
    add("--engine", default="auto", help="of test.py, which scores the runs")
    add("--out", type=Path, default=out, help="folder of the runs")


def budget_of(options: argparse.Namespace) -> Budget:
    """The budget that was asked for."""
    return Budget(options.images, options.size, options.epochs, options.batch, options.precision)


def run_all(
    options: argparse.Namespace, variants: Mapping[str, Variant], sets: Mapping[str, Path]
) -> dict[tuple[str, int], Finished]:
    """Trains and scores what is missing: every variant with every seed, seed by seed.

    Args:
        options: see `add_options`.
        variants: by key.
        sets: what to score on beside `choice`.
    """
    listed, choice = draw_images(options.train, options.images, options.choice, options.out)
    group = RunGroup(options.out / "runs", options.jobs)
    runs = [(variant, seed) for seed in range(options.seeds) for variant in variants]

    def finish(run: tuple[str, int]) -> Finished:
        folder = group.complete(training(*run, options, variants[run[0]].settings, listed))
        return Finished(folder, score(group, folder, {**sets, CHOICE: choice}, options))

    with side_by_side(options.jobs) as threads:
        return dict(zip(runs, tqdm(threads.map(finish, runs), total=len(runs), disable=None), strict=True))


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


def training(variant: str, seed: int, options: argparse.Namespace, settings: Sequence[str], listed: Path) -> Run:
    """The run of train.py with these settings and one seed."""
    budget = budget_of(options)
    return training_run(f"{variant}-{seed}", [
        "--config", options.config, "--data.root", options.train, "--data.list-file", listed, "--data.held-out", 0,
        "--data.size", budget.size, "--data.stages", "[]", "--epochs", budget.epochs, "--batch", budget.batch,
        "--encoder-weights", options.encoder_weights, "--device", options.device, "--seed", seed,
        "--precision", budget.precision, *settings,
    ])  # fmt: skip


def score(
    group: RunGroup, folder: Path, sets: Mapping[str, Path], options: argparse.Namespace
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


def values(scores: Scores, variant: str, name: str, measure: str, seeds: Sequence[int]) -> list[float]:
    """One measure of one variant on one set, by seed."""
    return [scores[variant, seed][name][measure] for seed in seeds]


def cell(scores: Scores, variant: str, other: str | None, name: str, measure: str, seeds: Sequence[int]) -> str:
    """Mean and spread, and the difference to another variant, seed by seed."""
    here = values(scores, variant, name, measure, seeds)
    text = f"{mean(here):.4f} ± {spread(here):.4f}"
    if other is None:
        return text
    return f"{text} ({difference(here, values(scores, other, name, measure, seeds))})"


def difference(here: Sequence[float], there: Sequence[float]) -> str:
    """Mean difference, seed by seed, and its standard error."""
    gains = [one - two for one, two in zip(here, there, strict=True)]
    return f"{mean(gains):+.4f} ± {spread(gains) / len(gains) ** 0.5:.4f}"


def spread(numbers: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 of a single number."""
    return stdev(numbers) if len(numbers) > 1 else 0.0


def draw(variants: Mapping[str, Variant], sets: Sequence[str], scores: Scores, seeds: Sequence[int]) -> Figure:
    """A panel a measure: a dot a seed and a bar at their mean, variants side by side, sets as groups."""
    figure = Figure(figsize=(3.2 * len(MEASURES), 3.6), layout="constrained")
    for panel, (measure, label) in zip(np.atleast_1d(figure.subplots(1, len(MEASURES))), MEASURES.items(), strict=True):
        for number, (variant, one) in enumerate(variants.items()):
            places = np.arange(len(sets)) + (number - (len(variants) - 1) / 2) * 0.18
            points = np.array([values(scores, variant, name, measure, seeds) for name in sets])  # (sets, seeds)
            panel.scatter(np.repeat(places, len(seeds)), points.ravel(), s=10, color=f"C{number}", alpha=0.6)
            panel.scatter(places, points.mean(1), s=160, marker="_", color=f"C{number}", label=one.title)
        panel.set_xticks(range(len(sets)), sets, rotation=20, fontsize=7)
        panel.set_title(f"{label} ({'lower' if measure == 'mae' else 'higher'} is better)", fontsize=9)
        panel.tick_params(axis="y", labelsize=7)
        panel.grid(axis="y", alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure
