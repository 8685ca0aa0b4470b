"""Settings of a search, and what it trains on."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets import EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.layouts import Pair, find_pairs
from data.settings import AugmentConfig
from data.synthetic import write_scenes
from data.transforms import TrainTransform
from net.architect import ArchitectConfig, alphas_rest
from net.cost import CostConfig
from net.losses import LossConfig
from net.supernet import SpaceConfig
from training.optim import OptimConfig
from utils.device import DeviceName, Precision
from utils.errors import UserError


class SearchError(UserError):
    """A search that can't start or can't go on."""


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise SearchError(f"{key}: {value}, expected {least} or more.")


@dataclass(frozen=True)
class SearchDataConfig:
    """What to search on.

    Attributes:
        root: a data set in any layout that `python -m data.check` knows; null generates `scenes` scenes into `--out`.
        list_file: one name a line, to search on a part; null for all.
        pictures: how many of them to take, drawn by seed; 0 for all.
        alphas: share that the alphas are judged by; the rest trains the weights. Half each as DARTS.
        size: side in pixels of the square.
        workers: processes that read, for each half.
        scenes: how many scenes to generate where there is no data set.
        augment: random changes of a picture and its mask.
    """

    root: Path | None = None
    list_file: Path | None = None
    pictures: int = 0
    alphas: float = 0.5
    size: int = 256
    workers: int = 2
    scenes: int = 48
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("workers", 0), ("scenes", 1)):
            _at_least(f"data.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class WatchConfig:
    """What is taken for a collapse, and what to do about it. Thresholds are our choice.

    Attributes:
        skip: warn when more than this share of the derived edges are `skip_connect`.
        entropy: warn when the mean entropy is below this share of the greatest possible before half of the search.
        stop: end the search at a warning, with the genotype of the epoch before.
        gap_batches: batches on which the loss of the mixture is compared with that of the derived edges after each
            epoch; 0 turns that off.
    """

    skip: float = 0.5
    entropy: float = 0.1
    stop: bool = False
    gap_batches: int = 2

    def __post_init__(self) -> None:
        _at_least("watch.gap_batches", self.gap_batches, 0)


@dataclass(frozen=True)
class SearchConfig:
    """A whole search. The authors' is not public: every default is DARTS' or our choice, none is the paper's.

    Attributes:
        data: pictures and their halves.
        space: encoder, width, candidates.
        architect: how alphas move.
        cost: term for cheap cells.
        optim: how weights move; DARTS' rates, a tenth for the encoder.
        loss: of weights and alphas alike; without polishing, which says little while everything is blurred.
        watch: what counts as a collapse.
        operations: Python files that register operations of yours, see the README; run before anything is built.
        encoder_weights: `imagenet` (the library downloads them), a path, or `none`.
        epochs: passes over the half that trains the weights; 50 in DARTS.
        batch: pictures a step, over all processes, the same for weights and alphas.
        seed: of everything that is drawn.
        device: auto, cpu, cuda or mps.
        precision: auto takes bf16 where the hardware has it; the second order computes in fp32.
        save_every: steps between checkpoints; one is written after every epoch as well.
        out: folder of the search.
    """

    data: SearchDataConfig = field(default_factory=SearchDataConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    architect: ArchitectConfig = field(default_factory=ArchitectConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=0.025, encoder_lr=0.0025, weight_decay=3e-4, schedule="cosine", warmup=0.0, clip=5.0
        )
    )
    loss: LossConfig = field(default_factory=lambda: LossConfig(polish=0.0))
    watch: WatchConfig = field(default_factory=WatchConfig)
    operations: list[Path] = field(default_factory=list)
    encoder_weights: str = "imagenet"
    epochs: int = 50
    batch: int = 8
    seed: int = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    save_every: int = 100
    out: Path = Path("runs/search")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "save_every"):
            _at_least(name, getattr(self, name), 1)
        if alphas_rest(self.architect, self.epochs - 1, self.epochs):
            raise SearchError(
                f"architect.warmup: {self.architect.warmup} of {self.epochs} epochs leaves none in which the alphas "
                f"move, so chance would choose the cells. Give more epochs or a shorter warm-up."
            )


class Halves(NamedTuple):
    """Both halves of the pictures.

    Attributes:
        weights: batches that train the weights; `weight_batches` says where they stand.
        alphas: batches that the alphas are judged by; `alpha_batches` likewise.
        pictures: counts and a fingerprint of the names, for the checkpoint and the genotype's provenance.
    """

    weights: PairLoader
    weight_batches: EpochBatches
    alphas: PairLoader
    alpha_batches: EpochBatches
    pictures: dict[str, str | int]

    @property
    def steps(self) -> int:
        """Steps of an epoch: as many as both halves have batches for."""
        return min(self.weight_batches.per_epoch, self.alpha_batches.per_epoch)


def build_halves(config: SearchConfig, rank: int = 0, world: int = 1, pin: bool = False) -> Halves:
    """Finds the pictures, splits them by seed into two disjoint halves, and builds a loader of each.

    Raises:
        SearchError: if there are too few pictures, naming all numbers.
        DataError: if the data set can't be read.
    """
    halves = split_halves(config, world)
    data, loaders, batches = config.data, [], []
    for pairs in halves:
        dealt = EpochBatches(
            len(pairs), config.batch // world, [data.size], seed=config.seed, rank=rank, world=world, drop_last=True
        )
        dataset = SaliencyDataset(pairs, TrainTransform(data.augment), config.seed)
        loaders.append(make_loader(dataset, dealt, data.workers, pin))
        batches.append(dealt)
    pictures: dict[str, str | int] = {
        "weights": len(halves[0]), "alphas": len(halves[1]), "files": fingerprint(*halves)
    }  # fmt: skip
    return Halves(loaders[0], batches[0], loaders[1], batches[1], pictures)


def split_halves(config: SearchConfig, world: int = 1) -> tuple[list[Pair], list[Pair]]:
    """The pairs for the weights and those for the alphas, without one in common.

    Raises:
        SearchError, DataError: see `build_halves`.
    """
    data = config.data
    if config.batch < 1 or config.batch % world:
        raise SearchError(f"batch: {config.batch} pictures can't be dealt out evenly to {world} processes.")
    if not 0 < data.alphas < 1:
        raise SearchError(f"data.alphas: {data.alphas}, expected a share between 0 and 1; DARTS takes 0.5.")
    pairs = find_pairs(scenes_of(config) if data.root is None else data.root, data.list_file)
    if data.pictures > len(pairs) or data.pictures < 0:
        raise SearchError(
            f"data.pictures: {data.pictures}, but {data.root} has {len(pairs)}. Give fewer, or 0 for all."
        )
    if data.pictures:
        drawn = np.random.default_rng(config.seed).permutation(len(pairs))[: data.pictures]
        pairs = [sorted(pairs)[int(index)] for index in sorted(drawn)]
    short = len(pairs) < 2
    weights, alphas = (pairs, []) if short else split_pairs(pairs, data.alphas, config.seed)
    if short or min(len(weights), len(alphas)) < config.batch:
        raise SearchError(
            f"{len(pairs)} pictures give {len(weights)} for the weights and {len(alphas)} for the alphas; one batch "
            f"takes {config.batch} of each. Give more pictures (data.root, data.pictures) or lower batch."
        )
    return weights, alphas


def scenes_of(config: SearchConfig) -> Path:
    """The folder of generated scenes below `--out`; they are written if it is not there."""
    folder, unfinished = config.out / "scenes", config.out / "scenes_unfinished"
    if not folder.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed here
        write_scenes(unfinished, config.data.scenes, config.data.size + 16, config.seed).rename(folder)
    return folder
