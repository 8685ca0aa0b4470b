"""Searched cells against published and random ones: the same budget, several seeds, scored on unseen images.

    python search.py compare --config configs/compare_lite.yaml --data DUTS-TR --benchmarks.ECSSD DIR
    python search.py compare --config configs/search_evidence.yaml --data DUTS-TR
    python search.py compare --report

Source: a search needs a comparison with random cells of its own space (Yang et al.,
"NAS evaluation is frustratingly hard", arXiv 1912.12522; Li and Talwalkar, arXiv 1902.07638).
Each search and each training is a run of search.py or train.py, recognised by its content, so the same command resumes
after a stop. Into `--out` go genotypes/, the runs, compare.md, compare.json and compare.png/.svg, the last four anew
after every run; into `--evidence` a row of trainings.csv for each training, and of searches.csv for each search.
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from data.datasets import fingerprint
from data.layouts import Pair, find_pairs
from data.pairs import with_coding
from nas.compare_settings import HOMOGENEOUS, PUBLISHED, RANDOM, UNDILATED, CompareConfig
from nas.evidence import (
    FinishedSearch,
    add_search,
    add_trainings,
    check_budget,
    genotype_file,
    genotypes_by_training,
    genotypes_of,
    read_searches,
    read_trainings,
    taken,
    training_of,
    write_trainings,
)
from nas.evidence_report import write_report
from nas.genotype_space import GenotypeSpace, dilated, without_dilation
from nas.mixtures import final_mixture, vote
from nas.results import Result, read_results, size_of, write_results
from nas.scoring import score_weights
from nas.settings import SearchConfig, SearchCostConfig, SearchError
from net.derive import allowed, check_genotype, random_genotype, strongest
from net.genotype import Genotype, load
from net.settings import SpaceConfig
from settings.parser import parse
from settings.plugins import run_files
from training.run_group import Run, RunGroup, file_content, settings_content, side_by_side, training_run
from training.settings import TrainConfig
from utils.errors import say
from utils.files import replace_text

HELD_OUT = "held-out"


class Candidate(NamedTuple):
    """A genotype to train: group (a variant, `published`, `random`), name within it, its file, its search's seed."""

    group: str
    name: str
    path: Path
    search_seed: int | None = None

    @property
    def genotype(self) -> Genotype:
        """The genotype in the file."""
        return load(self.path)


class Sets(NamedTuple):
    """Images of a comparison: names to train on, in a file, and pairs to score on by name of the dataset."""

    training: Path
    scored: dict[str, list[Pair]]


class Comparison(NamedTuple):
    """Everything that a comparison works with; `search` holds the settings of a search without its variant."""

    config: CompareConfig
    search: SearchConfig
    sets: Sets
    budget: dict[str, Any]
    searches: RunGroup
    trainings: RunGroup
    results: list[Result]

    @property
    def space(self) -> SpaceConfig:
        """What is searched."""
        return self.search.space


def main(arguments: Sequence[str]) -> int:
    """`compare_genotypes` with settings from a command line."""
    return compare_genotypes(parse(CompareConfig, "Compare searched, published and random cells.", arguments))


def compare_genotypes(config: CompareConfig) -> int:
    """Searches, draws, trains, scores and reports; skips what is done."""
    if config.report:
        for path in write_report():
            print(path)
        return 0
    comparison = prepare(config)
    fixed = fixed_candidates(comparison)  # before the searches, whose supernets score the pool
    if not config.searches_only:
        train_all(comparison, fixed)
    searched = searched_candidates(comparison)
    if config.searches_only:
        return 0
    train_all(comparison, searched)
    print(f"{config.out / 'compare.md'}, compare.json, compare.png")
    return 0


def prepare(config: CompareConfig) -> Comparison:
    """Finds the images, reads the settings, and checks that earlier results are comparable.

    Raises:
        SearchError, DataError, ResultsError, RunGroupError: see `draw_sets`, `read_results`, `RunGroup`.
    """
    sets = draw_sets(config)
    search: SearchConfig = parse(SearchConfig, "", ["--config", str(config.search)])
    run_files(search.plugins)
    budget = budget_of(config, search.space, sets)
    if config.evidence is not None:
        check_budget(config.evidence, budget)
    earlier = [] if config.earlier is None else read_results(config.earlier, budget, list(sets.scored))
    searches, trainings = (RunGroup(config.out / name, config.jobs) for name in ("searches", "trainings"))
    return Comparison(config, search, sets, budget, searches, trainings, earlier)


def draw_sets(config: CompareConfig) -> Sets:
    """Draws the images to train on and other images to score on; finds the benchmarks.

    Raises:
        SearchError: if the dataset has too few images.
        DataError: if a dataset can't be read.
    """
    pairs = sorted(find_pairs(config.data))
    wanted = config.images + config.held_out
    if min(config.images, config.held_out) < 1 or wanted > len(pairs):
        raise SearchError(
            f"{config.data}: {config.images} images to train on and {config.held_out} held out are {wanted}; it has "
            f"{len(pairs)}. Lower images or held_out; both must be 1 or more."
        )
    drawn = [pairs[int(index)] for index in np.random.default_rng(0).permutation(len(pairs))[:wanted]]
    listed = config.out / "images.txt"
    replace_text(listed, "".join(f"{pair.name}\n" for pair in sorted(drawn[: config.images])))
    benchmarks = {name: with_coding(find_pairs(folder)) for name, folder in config.benchmarks.items()}
    return Sets(listed, {HELD_OUT: sorted(drawn[config.images :]), **benchmarks})


def budget_of(config: CompareConfig, space: SpaceConfig, sets: Sets) -> dict[str, Any]:
    """What two comparisons must have in common for their results to be comparable: images, network, recipe."""
    recipe = settings_content(parse(TrainConfig, "", ["--config", str(config.train), "--data.root", str(config.data)]))
    own = ("data.root", "data.list_file", "data.held_out", "seed", "encoder_weights")  # given by the comparison
    weights = Path(config.encoder_weights)
    return {
        "images": config.images,
        "training": file_content(sets.training),
        "scored": {name: fingerprint(pairs) for name, pairs in sets.scored.items()},
        "encoder": space.encoder,
        "channels": space.channels,
        "encoder_weights": file_content(weights) if weights.is_file() else config.encoder_weights,
        "recipe": {key: value for key, value in recipe.items() if key not in own and not key.startswith("network.")},
    }


# --------------------------------------------------------------------------------------------- candidates


def fixed_candidates(comparison: Comparison) -> list[Candidate]:
    """Published, random, undilated, taken and homogeneous genotypes, all as files below `--out`."""
    config, space = comparison.config, comparison.space
    found = [_keep(comparison, PUBLISHED, name, load(name)) for name in config.published]
    found += [_keep(comparison, RANDOM, str(seed), genotype) for seed, genotype in _random(comparison)]
    wanted = set(config.undilated)
    plain = [one for one in found if wanted & {one.group, one.path.stem} and dilated(one.genotype)]
    found += [_keep(comparison, UNDILATED, f"{one.group}_{one.name}", without_dilation(one.genotype)) for one in plain]
    for key, (genotype, seed) in taken(config.source, config.taken).items():
        found.append(_keep(comparison, *key, genotype, seed))
    if config.homogeneous:
        for name in allowed(space, "inner"):
            weights = torch.tensor([[float(name == other) for other in space.operations]] * 31)
            found.append(_keep(comparison, HOMOGENEOUS, name, strongest(weights, space)))
    return found


def _random(comparison: Comparison) -> Iterable[tuple[int, Genotype]]:
    """Random genotypes by seed: even over the space, or over those with the cost that is wanted."""
    config, space = comparison.config, comparison.space
    if not config.target:
        return [(seed, random_genotype(space, seed)) for seed in config.random_seeds]
    choices = GenotypeSpace(space, comparison.search.data.size, SearchCostConfig(target=config.target))
    return [
        (seed, choices.genotype(choices.draw(np.random.default_rng(seed)), {"drawn": "random", "seed": seed}))
        for seed in config.random_seeds
    ]


def searched_candidates(comparison: Comparison) -> list[Candidate]:
    """Searched genotypes after searching for them, and those of a vote.

    A search that the evidence has from elsewhere is not repeated, but for a vote, which needs its weights.

    Raises:
        SpaceError: if a searched genotype is not of this space.
        RunGroupError: if a search fails.
    """
    config = comparison.config
    evidence = config.evidence
    known = {} if evidence is None else {(one.group, one.search_seed): one.key for one in read_searches(evidence)}
    found: list[Candidate] = []
    runs: dict[tuple[str, int], Run] = {}
    for variant, seed in ((variant, seed) for variant in config.variants for seed in config.search_seeds):
        run = search_run(comparison, variant, seed)
        elsewhere = known.get((variant, seed)) == run.key and comparison.searches.held(run) is None
        if evidence is not None and elsewhere and variant not in config.consensus:
            found.append(_keep_search(comparison, variant, seed, genotype_file(evidence, variant, str(seed))))
        else:
            runs[variant, seed] = run
    folders: dict[tuple[str, int], Path] = {}
    with side_by_side(config.jobs) as threads:
        searched = threads.map(comparison.searches.complete, runs.values())
        for one, folder in tqdm(zip(runs, searched, strict=True), "search", len(runs), unit="run", disable=None):
            folders[one] = folder
            found.append(_keep_search(comparison, *one, folder / "genotype.json"))
            if evidence is not None:
                path = folder / "scores.json"  # of a strategy with scores; the supernet's score of the pool, if any
                scores = json.loads(path.read_text("utf-8"))["also"] if path.is_file() else {}
                pool = {Path(name).stem: (one["score"], one["predicted"]) for name, one in scores.items()}
                done = FinishedSearch(*one, runs[one].key)
                add_search(evidence, done, found[-1].genotype, pool, final_mixture(folder))
    for variant in config.consensus:
        genotype = vote([folders[variant, seed] for seed in config.search_seeds], comparison.space)
        found.append(_keep(comparison, f"{variant}-consensus", "0", genotype))
    return found


def search_run(comparison: Comparison, variant: str, seed: int) -> Run:
    """The search of a variant with a seed."""
    config = comparison.config
    words = [
        "--config", str(config.search), "--data.root", str(config.data), "--data.list-file",
        str(comparison.sets.training), "--encoder-weights", config.encoder_weights, "--seed", str(seed),
        *shlex.split(config.variants[variant]),
    ]  # fmt: skip
    settings: SearchConfig = parse(SearchConfig, "", words)
    if settings.strategy == "oneshot":  # its supernet also scores the pool, for the rank correlation
        pool = sorted((config.out / "genotypes").glob(f"{RANDOM}_*.json"))
        words += ["--oneshot.also", json.dumps([str(path) for path in pool])]
        settings = parse(SearchConfig, "", words)
    if settings.strategy == "effects":  # learns from the pool
        words += ["--effects.trainings", str(pool_table(comparison, settings.effects.groups))]
        settings = parse(SearchConfig, "", words)
    return Run(f"{variant}_{seed}", "search.py", tuple(words), settings_content(settings))


def pool_table(comparison: Comparison, groups: Sequence[str]) -> Path:
    """A copy of the evidence that holds these groups alone, with the comparison's first training seed.

    Other rows would change what the search depends on, and it would be done again.

    Raises:
        SearchError: without evidence.
    """
    config = comparison.config
    if config.evidence is None:
        raise SearchError("evidence: strategy effects learns from the trainings there. Give --evidence DIR.")
    seed = config.train_seeds[0]
    rows = [row for row in read_trainings(config.evidence) if row.group in groups and row.training_seed == seed]
    genotypes = genotypes_of(config.evidence)
    own = {(row.group, row.genotype): genotypes[row.group, row.genotype] for row in rows}
    folder = config.out / "pool" / "_".join(groups)
    write_trainings(folder, rows, own)
    return folder / "trainings.csv"


def _keep(
    comparison: Comparison, group: str, name: str, genotype: Genotype, search_seed: int | None = None
) -> Candidate:
    path = comparison.config.out / "genotypes" / f"{group}_{name}.json"
    replace_text(path, genotype.to_json())
    return Candidate(group, name, path, search_seed)


def _keep_search(comparison: Comparison, variant: str, seed: int, path: Path) -> Candidate:
    """The candidate that a search found.

    Raises:
        SpaceError: if it is not of this space.
    """
    genotype = load(path)
    check_genotype(genotype, comparison.space, str(path))
    return _keep(comparison, variant, str(seed), genotype, seed)


# ------------------------------------------------------------------------------------------ train and score


def train_all(comparison: Comparison, candidates: Sequence[Candidate]) -> None:
    """Trains and scores candidates, seed by seed; the report is written anew after each.

    A training that the evidence has from elsewhere, with the same cells, is neither repeated nor in this report.
    """
    config = comparison.config
    elsewhere = {} if config.evidence is None else genotypes_by_training(config.evidence)
    runs = [
        (candidate, seed)
        for seed in config.train_seeds
        for candidate in candidates
        if elsewhere.get((candidate.group, candidate.name, seed)) != candidate.genotype.cells
        or comparison.trainings.held(run_of(comparison, candidate, seed)) is not None
    ]
    with side_by_side(config.jobs) as threads:
        trained = threads.map(lambda run: train_once(comparison, *run), runs)
        bar = tqdm(zip(runs, trained, strict=True), "train and score", len(runs), unit="run", disable=None)
        # Scored here, one by one: torch.fx, which folds networks, is not made for several threads.
        for (candidate, seed), folder in bar:
            result = score_once(comparison.sets, candidate, seed, folder)
            comparison.results.append(result)
            write_results(
                config.out, comparison.results, list(comparison.sets.scored), describe(config), comparison.budget
            )
            if config.evidence is not None:
                row = training_of(result, candidate.genotype, candidate.search_seed)
                key = (candidate.group, candidate.name)
                add_trainings(config.evidence, [row], {key: candidate.genotype}, comparison.budget)


def train_once(comparison: Comparison, candidate: Candidate, seed: int) -> Path:
    """Trains one genotype with one seed, unless it is done; returns the folder."""
    return comparison.trainings.complete(run_of(comparison, candidate, seed))


def run_of(comparison: Comparison, candidate: Candidate, seed: int) -> Run:
    """The training of a genotype with a seed."""
    config, space = comparison.config, comparison.space
    return training_run(f"{candidate.group}_{candidate.name}_{seed}", [
        "--config", config.train, "--data.root", config.data, "--data.list-file", comparison.sets.training,
        "--data.held-out", "0", "--network.encoder", space.encoder, "--network.channels", space.channels,
        "--network.genotype", candidate.path, "--encoder-weights", config.encoder_weights, "--seed", seed,
    ])  # fmt: skip


def score_once(sets: Sets, candidate: Candidate, seed: int, folder: Path) -> Result:
    """Scores a training; scores that are there already are read back."""
    weights, path = folder / "best.safetensors", folder / "scores.json"
    known = scores_in(path)
    files = {name: fingerprint(pairs) for name, pairs in sets.scored.items()}
    missing = [name for name in sets.scored if known.get(name, {}).get("files") != files[name]]
    for name, scores in score_weights(weights, {name: sets.scored[name] for name in missing}).items():
        known[name] = {"files": files[name], "scores": scores}
        replace_text(path, json.dumps(known, indent=2) + "\n")
    parameters, gmac = size_of(weights)
    scores = {name: known[name]["scores"] for name in sets.scored}
    return Result(candidate.group, candidate.name, seed, parameters, gmac, scores)


def scores_in(path: Path) -> dict[str, dict[str, Any]]:
    """What `score_once` wrote: name of a dataset -> `files`, `scores`. Nothing, with a notice, if it is damaged."""
    if not path.is_file():
        return {}
    try:
        found = dict(json.loads(path.read_text("utf-8")))
        if all({"files", "scores"} <= set(one) for one in found.values()):
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    say(f"notice: {path}: is damaged; the weights are scored again.")
    return {}


def describe(config: CompareConfig) -> str:
    """What was compared, in a sentence or two for the report."""
    return (
        f"{config.images} images of {config.data.name} to search and train on, {config.held_out} others held out; "
        f"settings: {config.search.name}, {config.train.name}; training seeds "
        f"{', '.join(map(str, config.train_seeds))}. "
        + (f"Results of {config.earlier} stand beside. " if config.earlier else "")
        + "".join(
            f"Variant {name}: `search.py {arguments}`. " for name, arguments in config.variants.items() if arguments
        )
    ).strip()
