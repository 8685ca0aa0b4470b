"""Searched cells against published and random ones: the same budget, several seeds, scored on what nobody trained on.

    python search.py compare --config configs/compare_lite.yaml --data DUTS-TR --benchmarks.ECSSD DIR

Source of the demand: a search that is not compared with random cells of its own space shows nothing (Yang et al.,
"NAS evaluation is frustratingly hard", arXiv 1912.12522; Li and Talwalkar, arXiv 1902.07638).
Each search and each training is a run of search.py or train.py in a folder of its own. What is finished is not done
again, so the same command goes on after a stop. Into `--out` go genotypes/, the runs, compare.md, compare.json and
compare.png/.svg, the last four anew after every run.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from tqdm import tqdm

from data.datasets import fingerprint
from data.image_io import read_mask
from data.layouts import Pair, find_pairs
from evaluation.metrics import score_pair, summarise
from inference.predictor import Predictor
from inference.saliency import to_8bit
from inference.weights import load_checkpoint
from nas.results import RANDOM, Result, read_results, size_of, write_results
from nas.settings import SearchConfig, SearchError
from net.derive import check_genotype, random_genotype, strongest
from net.genotype import Genotype, load
from net.settings import SpaceConfig
from utils.config import parse
from utils.cores import usable_cores
from utils.files import replace_text
from utils.plugins import run_files

ROOT = Path(__file__).resolve().parents[1]
MEASURES = ("mae", "sm", "wfm", "maxf")
HELD_OUT, PUBLISHED = "held-out", "published"


@dataclass(frozen=True)
class CompareConfig:
    """A comparison.

    Attributes:
        data: the data set that searches and trainings draw from.
        search: settings of a search; its space is that of the random genotypes and its network is trained.
        train: settings of a training, the same for all.
        benchmarks: name -> data set for the final scores.
        variants: name -> further arguments of search.py, as one line; each is searched with every search seed.
        pictures: drawn by seed 0 from `data` to search and train on.
        held_out: as many further ones to score on.
        search_seeds: one search for each, of every variant.
        random_seeds: one random genotype for each.
        published: names of published genotypes.
        train_seeds: one training for each, of every genotype.
        consensus: names of variants whose searches also vote together: one genotype from the mean of their weights,
            in a group of its own.
        earlier: compare.json of a comparison with the same pictures and budget, whose results are reported beside.
        jobs: searches, and trainings, that run side by side, each with its share of the cores.
        encoder_weights: for search.py and train.py.
        out: folder of the comparison.
    """

    data: Path
    search: Path = Path("configs/search_lite.yaml")
    train: Path = Path("configs/compare_train.yaml")
    benchmarks: dict[str, Path] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=lambda: {"searched": ""})
    pictures: int = 1500
    held_out: int = 150
    search_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    published: list[str] = field(default_factory=lambda: ["resnet50"])
    train_seeds: list[int] = field(default_factory=lambda: [0, 1])
    consensus: list[str] = field(default_factory=list)
    earlier: Path | None = None
    jobs: int = 1
    encoder_weights: str = "imagenet"
    out: Path = Path("runs/compare")

    def __post_init__(self) -> None:
        taken = [name for name in self.variants if name in (RANDOM, PUBLISHED)]
        if taken:
            raise SearchError(f"variants: '{taken[0]}' is the name of another group. Choose another.")
        unknown = [name for name in self.consensus if name not in self.variants]
        if unknown:
            raise SearchError(f"consensus: '{unknown[0]}' is none of the variants ({', '.join(self.variants)}).")
        if self.jobs < 1:
            raise SearchError(f"jobs: {self.jobs}, expected 1 or more.")


class Candidate(NamedTuple):
    """A genotype to train: group (a variant, `published`, `random`), name within it, its file."""

    group: str
    name: str
    genotype: Path


class Sets(NamedTuple):
    """Pictures of a comparison: names to train on, in a file, and pairs to score on by name of the set."""

    training: Path
    scored: dict[str, list[Pair]]


def main(arguments: Sequence[str]) -> int:
    """Searches, draws, trains, scores and reports; skips what is done."""
    config = parse(CompareConfig, "Compare searched, published and random cells.", arguments)
    sets = draw_sets(config)
    settings = parse(SearchConfig, "", ["--config", str(config.search)])
    run_files(settings.operations)
    space = settings.space
    budget = budget_of(config, sets)
    results = [] if config.earlier is None else read_results(config.earlier, budget)
    candidates = list(find_candidates(config, sets, space))
    runs = [(candidate, seed) for seed in config.train_seeds for candidate in candidates]
    with ThreadPoolExecutor(config.jobs) as threads:
        trained = threads.map(lambda run: train_once(config, sets, space, *run), runs)
        bar = tqdm(zip(runs, trained, strict=True), "train and score", len(runs), unit="run", disable=None)
        # Scored here, one by one: torch.fx, which folds networks, is not made for several threads.
        for (candidate, seed), folder in bar:
            results.append(score_once(sets, candidate, seed, folder))
            write_results(config.out, results, [HELD_OUT, *config.benchmarks], describe(config), budget)
    print(f"{config.out / 'compare.md'}, compare.json, compare.png")
    return 0


def draw_sets(config: CompareConfig) -> Sets:
    """Draws the pictures to train on and, apart from them, those that are held out; finds the benchmarks.

    Raises:
        SearchError: if the data set has too few pictures.
        DataError: if a data set can't be read.
    """
    pairs = sorted(find_pairs(config.data))
    wanted = config.pictures + config.held_out
    if min(config.pictures, config.held_out) < 1 or wanted > len(pairs):
        raise SearchError(
            f"{config.data}: {config.pictures} pictures to train on and {config.held_out} held out are {wanted}; it "
            f"has {len(pairs)}. Lower pictures or held_out; both must be 1 or more."
        )
    drawn = [pairs[int(index)] for index in np.random.default_rng(0).permutation(len(pairs))[:wanted]]
    listed = config.out / "pictures.txt"
    replace_text(listed, "".join(f"{pair.name}\n" for pair in sorted(drawn[: config.pictures])))
    benchmarks = {name: find_pairs(folder) for name, folder in config.benchmarks.items()}
    return Sets(listed, {HELD_OUT: sorted(drawn[config.pictures :]), **benchmarks})


def budget_of(config: CompareConfig, sets: Sets) -> dict[str, Any]:
    """What two comparisons must have in common for their results to stand side by side."""
    held_out = "\n".join(pair.name for pair in sets.scored[HELD_OUT])
    recipe = yaml.safe_load(config.train.read_text("utf-8"))
    return {
        "pictures": config.pictures, "held_out": hashlib.sha256(held_out.encode()).hexdigest()[:16], "recipe": recipe
    }  # fmt: skip


def find_candidates(config: CompareConfig, sets: Sets, space: SpaceConfig) -> Sequence[Candidate]:
    """Published, random and searched genotypes, the last after searching for them; all as files below `--out`.

    Raises:
        SpaceError: if a searched genotype is not of this space.
        SearchError: if a search fails.
    """
    found = [Candidate(PUBLISHED, name, _keep(config, f"published_{name}", load(name).to_json()))
             for name in config.published]  # fmt: skip
    for seed in config.random_seeds:
        genotype = random_genotype(space, seed)
        found.append(Candidate(RANDOM, str(seed), _keep(config, f"random_{seed}", genotype.to_json())))
    wanted = [(variant, seed) for variant in config.variants for seed in config.search_seeds]
    with ThreadPoolExecutor(config.jobs) as threads:
        searched = threads.map(lambda one: search_once(config, sets, *one), wanted)
        folders = dict(zip(wanted, tqdm(searched, "search", len(wanted), unit="run", disable=None), strict=True))
    for (variant, seed), folder in folders.items():
        path = folder / "genotype.json"
        check_genotype(load(path), space, str(path))
        found.append(Candidate(variant, str(seed), _keep(config, f"{variant}_{seed}", path.read_text("utf-8"))))
    for variant in config.consensus:
        genotype = vote([folders[variant, seed] for seed in config.search_seeds], space)
        name = f"{variant}-consensus"
        found.append(Candidate(name, "0", _keep(config, name, genotype.to_json())))
    return found


def search_once(config: CompareConfig, sets: Sets, variant: str, seed: int) -> Path:
    """Runs one search, unless it is done; returns its folder."""
    folder = config.out / "searches" / f"{variant}_{seed}"
    run_once(folder, [
        "search.py", "--config", str(config.search), "--data.root", str(config.data), "--data.list_file",
        str(sets.training), "--encoder_weights", config.encoder_weights, "--seed", str(seed), "--out",
        str(folder), *shlex.split(config.variants[variant]),
    ], [config.search, sets.training], config.jobs)  # fmt: skip
    return folder


def vote(searches: Sequence[Path], space: SpaceConfig) -> Genotype:
    """The genotype of the mean weights that finished searches of one space ended with."""
    tables = []
    for folder in searches:
        epoch = load(folder / "genotype.json").provenance["epoch"]  # not the last where a collapse ended the search
        tables.append(load_checkpoint(folder / "last.pt")["history"][epoch - 1]["probabilities"])
    return strongest(torch.tensor(tables).mean(0), space, {"mean of": [folder.name for folder in searches]})


def train_once(config: CompareConfig, sets: Sets, space: SpaceConfig, candidate: Candidate, seed: int) -> Path:
    """Trains one genotype with one seed, unless it is done; returns the folder."""
    folder = config.out / "trainings" / f"{candidate.group}_{candidate.name}_{seed}"
    run_once(folder, [
        "train.py", "--config", str(config.train), "--data.root", str(config.data), "--data.list_file",
        str(sets.training), "--data.held_out", "0", "--network.encoder", space.encoder, "--network.channels",
        str(space.channels), "--network.genotype", str(candidate.genotype), "--encoder_weights",
        config.encoder_weights, "--seed", str(seed), "--out", str(folder),
    ], [config.train, sets.training, candidate.genotype], config.jobs)  # fmt: skip
    return folder


def score_once(sets: Sets, candidate: Candidate, seed: int, folder: Path) -> Result:
    """Scores a training; what is there already is read back."""
    weights, path = folder / "best.safetensors", folder / "scores.json"
    known: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    files = {name: fingerprint(pairs) for name, pairs in sets.scored.items()}
    missing = [name for name in sets.scored if known.get(name, {}).get("files") != files[name]]
    if missing:
        predictor = Predictor.from_pretrained(weights, engine="torch")
        for name in missing:
            known[name] = {"files": files[name], "scores": score(predictor, sets.scored[name], name)}
        replace_text(path, json.dumps(known, indent=2) + "\n")
    parameters, gmac = size_of(weights)
    scores = {name: known[name]["scores"] for name in sets.scored}
    return Result(candidate.group, candidate.name, seed, parameters, gmac, scores)


def score(predictor: Predictor, pairs: Sequence[Pair], title: str) -> dict[str, float]:
    """Weighted F, maximal F, S and MAE of maps at the size of the masks."""
    found = [
        score_pair(to_8bit(predictor(pair.image)), read_mask(pair.mask), pair.name, MEASURES)
        for pair in tqdm(pairs, title, unit="image", disable=None, leave=False)
    ]
    return summarise(found)


def run_once(folder: Path, command: Sequence[str], inputs: Sequence[Path] = (), jobs: int = 1) -> None:
    """Runs a script of this project unless the folder says that this very run is finished.

    Args:
        folder: of the run.
        command: the script and its arguments.
        inputs: files that the command names; a run with other contents is another run.
        jobs: how many run at once and share the cores.

    Raises:
        SearchError: if it fails, or the folder holds another run.
    """
    finished, output = folder / "finished.json", folder / "output.txt"
    asked = [*command, *(f"{path} ({_content(path)})" for path in inputs)]
    if finished.is_file():
        before = json.loads(finished.read_text("utf-8"))
        if before != asked:
            changed = next((pair for pair in zip(before, asked, strict=False) if pair[0] != pair[1]), ("", ""))
            raise SearchError(
                f"{folder}: was run with {changed[0]!r} where it is {changed[1]!r} now. Give another --out, or remove "
                f"this folder to run it anew."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} if jobs > 1 else {}
    with output.open("a", encoding="utf-8") as stream:
        code = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *command[1:]], stdout=stream, stderr=stream, check=False,
            env={**os.environ, **shared},
        ).returncode  # fmt: skip
    if code:
        last = (output.read_text("utf-8").strip().splitlines() or ["no output"])[-1]
        raise SearchError(f"{folder}: {command[0]} ended with code {code}: {last}. All it said is in {output}.")
    replace_text(finished, json.dumps(asked, indent=2) + "\n")


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def describe(config: CompareConfig) -> str:
    """What was compared, in a sentence or two for the report."""
    return (
        f"{config.pictures} pictures of {config.data.name} to search and train on, {config.held_out} others held out; "
        f"settings: {config.search.name}, {config.train.name}; training seeds "
        f"{', '.join(map(str, config.train_seeds))}. "
        + (f"Results of {config.earlier} stand beside. " if config.earlier else "")
        + "".join(
            f"Variant {name}: `search.py {arguments}`. " for name, arguments in config.variants.items() if arguments
        )
    )


def _keep(config: CompareConfig, name: str, text: str) -> Path:
    path = config.out / "genotypes" / f"{name}.json"
    replace_text(path, text)
    return path
