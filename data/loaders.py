"""Loaders of the training and validation splits, from the settings."""

from typing import NamedTuple

from data.datasets import EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.errors import DataError
from data.layouts import find_pairs
from data.pairs import with_coding
from data.settings import DataConfig, SeedsConfig
from data.transforms import EvalTransform, TrainTransform


class Loaders(NamedTuple):
    """What `build_loaders` gives.

    Attributes:
        training: batches of this process's share.
        batches: the position of the training loader.
        validation: this process's share of the validation split; None if it is empty.
        files: sizes of both splits and a fingerprint of their names, for the checkpoint.
    """

    training: PairLoader
    batches: EpochBatches
    validation: PairLoader | None
    files: dict[str, str | int]


def build_loaders(
    config: DataConfig,
    batch: int,
    seed: int,
    *,
    seeds: SeedsConfig | None = None,
    parts: int = 1,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Loaders:
    """Builds the loaders of the training and the validation split.

    Args:
        config: what to read.
        batch: images of one step, over all processes and parts.
        seed: of the split, the order and the augmentation, unless `seeds` states another one.
        seeds: of each of them.
        parts: number of parts of a step (gradient accumulation); a batch of validation has the size of one part.
        rank: of this process.
        world: number of processes.
        pin: whether to place batches for a fast copy to a GPU.

    Raises:
        DataError: nothing to train on, or a batch that can't be distributed evenly.
    """
    if batch < 1 or batch % (world * parts):
        raise DataError(
            f"batch: {batch} images can't be distributed evenly to {world} processes with {parts} parts each "
            f"(accumulate). Give a multiple of {world * parts}."
        )
    order, augment, split = resolved(seeds, seed)
    pairs = with_coding(find_pairs(config.root, config.list_file), config.mask_values)
    kept, held_out = split_pairs(pairs, config.held_out, split)
    batches = EpochBatches(
        len(kept), batch // world, config.sizes_at(0), seed=order, rank=rank, world=world, drop_last=True
    )
    workers = config.worker_count(world)
    train_set = SaliencyDataset(kept, TrainTransform(config.augment), augment, config.cache)
    training = make_loader(train_set, batches, workers, pin)
    validation = None
    if held_out:
        # Distributed without padding: every image is scored once, with any number of processes.
        checks = EpochBatches(len(held_out), batch // world // parts, [config.size], seed=order, rank=rank, world=world)
        validation = make_loader(
            SaliencyDataset(held_out, EvalTransform(), augment, config.cache), checks, workers, pin
        )
    files: dict[str, str | int] = {
        "training": len(kept),
        "held_out": len(held_out),
        "files": fingerprint(kept, held_out),
    }
    return Loaders(training, batches, validation, files)


def resolved(seeds: SeedsConfig | None, seed: int) -> tuple[int, int, int]:
    """Seeds of order, augmentation and split, where those that are null are `seed`."""
    stated = (None, None, None) if seeds is None else (seeds.order, seeds.augment, seeds.split)
    order, augment, split = (seed if one is None else one for one in stated)
    return order, augment, split
