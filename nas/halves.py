"""The images of a search: one half trains the weights, the other the alphas."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets import Batch, EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.layouts import Pair, find_pairs
from data.loaders import resolved
from data.pairs import with_coding
from data.synthetic import write_scenes
from data.transforms import TrainTransform
from nas.settings import SearchConfig, SearchError

APART = 1_000_003
"""Distance of the alphas' seeds from the weights' ones."""


class Halves(NamedTuple):
    """Both halves of the images.

    Attributes:
        weights: batches that train the weights; `weight_batches` holds their position.
        alphas: batches that train the alphas; `alpha_batches` likewise.
        images: counts and a fingerprint of the names, for the checkpoint and the genotype's provenance.
    """

    weights: PairLoader
    weight_batches: EpochBatches
    alphas: PairLoader
    alpha_batches: EpochBatches
    images: dict[str, str | int]

    @property
    def steps(self) -> int:
        """Steps of an epoch: one pass over the weights' half."""
        return self.weight_batches.per_epoch

    def alphas_from(self, step: int) -> Iterator[Batch]:
        """Batches of the alphas' half without end, from the one that belongs to a step of the search.

        Its own passes follow each other, so the halves may differ in size. At equal sizes a pass of one half is a pass
        of the other.
        """
        return _endless(self.alphas, self.alpha_batches, step)

    def weights_from(self, step: int) -> Iterator[Batch]:
        """Batches of the weights' half without end, from the one that belongs to a step."""
        return _endless(self.weights, self.weight_batches, step)


def _endless(loader: PairLoader, batches: EpochBatches, step: int) -> Iterator[Batch]:
    epoch, batch = divmod(step, batches.per_epoch)
    while True:
        batches.set_position(epoch, batch)
        yield from loader
        epoch, batch = epoch + 1, 0


def build_halves(config: SearchConfig, rank: int = 0, world: int = 1, pin: bool = False) -> Halves:
    """Finds the images, splits them by seed into two disjoint halves, and builds a loader of each.

    Raises:
        SearchError: if there are too few images, naming all numbers.
        DataError: if the dataset can't be read.
    """
    halves = split_halves(config, world)
    data, loaders, batches = config.data, [], []
    for pairs, (order, augment) in zip(halves, seeds_of_halves(config), strict=True):
        dealt = EpochBatches(
            len(pairs), config.batch // world, [data.size], seed=order, rank=rank, world=world, drop_last=True
        )
        dataset = SaliencyDataset(pairs, TrainTransform(data.augment), augment)
        loaders.append(make_loader(dataset, dealt, data.workers, pin))
        batches.append(dealt)
    images: dict[str, str | int] = {
        "weights": len(halves[0]), "alphas": len(halves[1]), "files": fingerprint(*halves)
    }  # fmt: skip
    return Halves(loaders[0], batches[0], loaders[1], batches[1], images)


def seeds_of_halves(config: SearchConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Seeds of order and augmentation: of the weights' half, then of the alphas' half.

    With one seed for both, halves of equal size would be drawn in the same order with the same augmentation.
    """
    order, augment, _ = resolved(config.seeds, config.seed)
    alphas = config.seeds.alphas
    other = (order + APART, augment + APART) if alphas is None else (alphas, alphas)
    return (order, augment), other


def split_halves(config: SearchConfig, world: int = 1) -> tuple[list[Pair], list[Pair]]:
    """The pairs for the weights and those for the alphas, without one in common.

    Raises:
        SearchError, DataError: see `build_halves`.
    """
    data, (_, _, split) = config.data, resolved(config.seeds, config.seed)
    if config.batch < 1 or config.batch % world:
        raise SearchError(f"batch: {config.batch} images can't be dealt out evenly to {world} processes.")
    if not 0 < data.alphas < 1:
        raise SearchError(f"data.alphas: {data.alphas}, expected a share between 0 and 1; DARTS takes 0.5.")
    pairs = find_pairs(scenes_of(config) if data.root is None else data.root, data.list_file)
    pairs = with_coding(pairs, data.mask_values)
    if data.images > len(pairs) or data.images < 0:
        raise SearchError(f"data.images: {data.images}, but {data.root} has {len(pairs)}. Give fewer, or 0 for all.")
    if data.images:
        drawn = np.random.default_rng(split).permutation(len(pairs))[: data.images]
        pairs = [sorted(pairs)[int(index)] for index in sorted(drawn)]
    short = len(pairs) < 2
    weights, alphas = (pairs, []) if short else split_pairs(pairs, data.alphas, split)
    if short or min(len(weights), len(alphas)) < config.batch:
        raise SearchError(
            f"{len(pairs)} images give {len(weights)} for the weights and {len(alphas)} for the alphas; one batch "
            f"takes {config.batch} of each. Give more images (data.root, data.images) or lower batch."
        )
    return weights, alphas


def scenes_of(config: SearchConfig) -> Path:
    """The folder of generated scenes below `--out`; they are written if it does not exist."""
    folder, unfinished = config.out / "scenes", config.out / "scenes_unfinished"
    if not folder.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed here
        write_scenes(unfinished, config.data.scenes, config.data.size + 16, config.seed).rename(folder)
    return folder
