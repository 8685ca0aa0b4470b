"""Searched cells against published and random ones: the same budget, several seeds, scored on what nobody trained on.

    python search.py compare --config configs/compare_lite.yaml --data DUTS-TR --benchmarks.ECSSD DIR

Source of the demand: a search that is not compared with random cells of its own space shows nothing (Yang et al.,
"NAS evaluation is frustratingly hard", arXiv 1912.12522; Li and Talwalkar, arXiv 1902.07638).
Each search and each training is a run of search.py or train.py in a folder of its own. What is finished is not done
again, so the same command goes on after a stop. Into `--out` go genotypes/, the runs, compare.md, compare.json and
compare.png/.svg, the last four anew after every run.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.image_io import read_mask
from data.layouts import Pair, find_pairs
from net.derive import check_genotype, random_genotype
from net.genotype import load
from net.predictor import Predictor, to_8bit
from net.supernet import SpaceConfig
from utils.config import parse
from utils.files import replace_text
from utils.metrics import score_pair
from utils.search.config import SearchConfig, SearchError
from utils.search.results import RANDOM, Result, size_of, write_results

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = "held-out"


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
    encoder_weights: str = "imagenet"
    out: Path = Path("runs/compare")


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
    space = parse(SearchConfig, "", ["--config", str(config.search)]).space
    results: list[Result] = []
    candidates = list(find_candidates(config, sets, space))
    runs = [(seed, candidate) for seed in config.train_seeds for candidate in candidates]
    for seed, candidate in tqdm(runs, "train and score", unit="run", disable=None):
        results.append(train_and_score(config, sets, space, candidate, seed))
        write_results(config.out, results, [HELD_OUT, *config.benchmarks], describe(config))
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


def find_candidates(config: CompareConfig, sets: Sets, space: SpaceConfig) -> Sequence[Candidate]:
    """Published, random and searched genotypes, the last after searching for them; all as files below `--out`.

    Raises:
        SpaceError: if a searched genotype is not of this space.
        SearchError: if a search fails.
    """
    found = [Candidate("published", name, _keep(config, f"published_{name}", load(name).to_json()))
             for name in config.published]  # fmt: skip
    for seed in config.random_seeds:
        genotype = random_genotype(space, seed)
        found.append(Candidate(RANDOM, str(seed), _keep(config, f"random_{seed}", genotype.to_json())))
    for variant, arguments in config.variants.items():
        for seed in config.search_seeds:
            folder = config.out / "searches" / f"{variant}_{seed}"
            run_once(folder, [
                "search.py", "--config", str(config.search), "--data.root", str(config.data), "--data.list_file",
                str(sets.training), "--encoder_weights", config.encoder_weights, "--seed", str(seed), "--out",
                str(folder), *shlex.split(arguments),
            ])  # fmt: skip
            path = folder / "genotype.json"
            check_genotype(load(path), space, str(path))
            found.append(Candidate(variant, str(seed), _keep(config, f"{variant}_{seed}", path.read_text("utf-8"))))
    return found


def train_and_score(config: CompareConfig, sets: Sets, space: SpaceConfig, candidate: Candidate, seed: int) -> Result:
    """Trains one genotype with one seed and scores it; what is there already is read back."""
    folder = config.out / "trainings" / f"{candidate.group}_{candidate.name}_{seed}"
    run_once(folder, [
        "train.py", "--config", str(config.train), "--data.root", str(config.data), "--data.list_file",
        str(sets.training), "--data.held_out", "0", "--network.encoder", space.encoder, "--network.channels",
        str(space.channels), "--network.genotype", str(candidate.genotype), "--encoder_weights",
        config.encoder_weights, "--seed", str(seed), "--out", str(folder),
    ])  # fmt: skip
    weights, path = folder / "best.safetensors", folder / "scores.json"
    scores: dict[str, dict[str, float]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    missing = [name for name in sets.scored if name not in scores]
    if missing:
        predictor = Predictor.from_pretrained(weights, engine="torch")
        scores |= {name: score(predictor, sets.scored[name], name) for name in missing}
        replace_text(path, json.dumps(scores, indent=2) + "\n")
    parameters, gmac = size_of(weights)
    return Result(candidate.group, candidate.name, seed, parameters, gmac, scores)


def score(predictor: Predictor, pairs: Sequence[Pair], title: str) -> dict[str, float]:
    """Weighted F, maximal F, S and MAE of maps at the size of the masks."""
    found = [
        score_pair(to_8bit(predictor(pair.image)), read_mask(pair.mask), pair.name)
        for pair in tqdm(pairs, title, unit="image", disable=None, leave=False)
    ]
    means = {key: float(np.mean([getattr(one.row.measures, key) for one in found])) for key in ("wfm", "sm", "mae")}
    return {**means, "maxf": float(np.mean([one.curves[2] for one in found], axis=0).max())}  # (256,) F by threshold


def run_once(folder: Path, command: Sequence[str]) -> None:
    """Runs a script of this project unless the folder says that this very run is finished.

    Raises:
        SearchError: if it fails, or the folder holds another run.
    """
    finished, output = folder / "finished.json", folder / "output.txt"
    if finished.is_file():
        before = json.loads(finished.read_text("utf-8"))
        if before != list(command):
            changed = next((pair for pair in zip(before, command, strict=False) if pair[0] != pair[1]), ("", ""))
            raise SearchError(
                f"{folder}: was run with {changed[0]!r} where it is {changed[1]!r} now. Give another --out, or remove "
                f"this folder to run it anew."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with output.open("a", encoding="utf-8") as stream:
        code = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *command[1:]], stdout=stream, stderr=stream, check=False
        ).returncode
    if code:
        last = (output.read_text("utf-8").strip().splitlines() or ["no output"])[-1]
        raise SearchError(f"{folder}: {command[0]} ended with code {code}: {last}. All it said is in {output}.")
    replace_text(finished, json.dumps(list(command), indent=2) + "\n")


def describe(config: CompareConfig) -> str:
    """What was compared, in a sentence or two for the report."""
    return (
        f"{config.pictures} pictures of {config.data.name} to search and train on, {config.held_out} others held out; "
        f"settings: {config.search.name}, {config.train.name}; training seeds "
        f"{', '.join(map(str, config.train_seeds))}. "
        + "".join(
            f"Variant {name}: `search.py {arguments}`. " for name, arguments in config.variants.items() if arguments
        )
    )


def _keep(config: CompareConfig, name: str, text: str) -> Path:
    path = config.out / "genotypes" / f"{name}.json"
    replace_text(path, text)
    return path
