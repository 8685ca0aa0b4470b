"""Loaders of the training and validation splits, from the settings."""

from pathlib import Path
from typing import NamedTuple

from data.datasets import EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.errors import DataError
from data.layouts import Pair, find_pairs
from data.pairs import with_coding
from data.settings import DataConfig, SeedsConfig
from data.soft_maps import DistillationDataset, SoftMaps
from data.transforms import EvalTransform, TrainTransform


class Loaders(NamedTuple):
    """What `build_loaders` gives.

    Attributes:
        training: batches of this process's share.
        batches: the position of the training loader.
        validation: this process's share of the validation split; None if it is empty.
        files: sizes of both splits and a fingerprint of their names, for the checkpoint; in distillation that of the
            soft maps as well.
        resized: number of soft maps of another size than their image; counted in the process of rank 0.
    """

    training: PairLoader
    batches: EpochBatches
    validation: PairLoader | None
    files: dict[str, str | int]
    resized: int = 0


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
    soft_maps: Path | None = None,
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
        soft_maps: folder of a teacher's maps of the training split; the validation split has none.

    Raises:
        DataError: nothing to train on, a batch that can't be distributed evenly, or soft maps that are missing or
            cannot be used.
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
    found = None if soft_maps is None else SoftMaps.find(soft_maps, kept)
    resized = found.check() if found is not None and rank == 0 else 0
    training = make_loader(_training_set(config, kept, augment, found), batches, workers, pin)
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
    if found is not None:
        files["soft_maps"] = found.fingerprint()
    return Loaders(training, batches, validation, files, resized)


def _training_set(config: DataConfig, pairs: list[Pair], seed: int, soft_maps: SoftMaps | None) -> SaliencyDataset:
    transform = TrainTransform(config.augment)
    if soft_maps is None:
        return SaliencyDataset(pairs, transform, seed, config.cache)
    return DistillationDataset(soft_maps, transform, seed, config.cache)


def resolved(seeds: SeedsConfig | None, seed: int) -> tuple[int, int, int]:
    """Seeds of order, augmentation and split, where those that are null are `seed`."""
    stated = (None, None, None) if seeds is None else (seeds.order, seeds.augment, seeds.split)
    order, augment, split = (seed if one is None else one for one in stated)
    return order, augment, split
