"""What a run trains on and what it is validated on: the loaders that the settings give."""

from typing import NamedTuple

from data.datasets import EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.errors import DataError
from data.layouts import find_pairs
from data.settings import DataConfig
from data.transforms import EvalTransform, TrainTransform


class Loaders(NamedTuple):
    """What `build_loaders` gives.

    Attributes:
        training: batches of this process's share.
        batches: says where the training loader stands.
        validation: this process's share of the held-out pictures; None if none is held out.
        pictures: numbers of pictures to train on and held out, and a fingerprint of their names.
    """

    training: PairLoader
    batches: EpochBatches
    validation: PairLoader | None
    pictures: dict[str, str | int]


def build_loaders(
    config: DataConfig, batch: int, seed: int, *, parts: int = 1, rank: int = 0, world: int = 1, pin: bool = False
) -> Loaders:
    """Loaders of the training and of the held-out part.

    Args:
        config: what to read.
        batch: pictures of one step, over all processes and parts.
        seed: of the split, the order and the augmentation.
        parts: into how many the step is split where it computes, so that validation needs no more memory than it.
        rank: of this process.
        world: number of processes.
        pin: whether to place batches for a fast copy to a GPU.

    Raises:
        DataError: nothing to train on, or a batch that can't be dealt out evenly.
    """
    if batch < 1 or batch % (world * parts):
        raise DataError(
            f"batch: {batch} pictures can't be dealt out evenly to {world} processes with {parts} parts each "
            f"(accumulate). Give a multiple of {world * parts}."
        )
    kept, held_out = split_pairs(find_pairs(config.root, config.list_file), config.held_out, seed)
    batches = EpochBatches(
        len(kept), batch // world, config.sizes_at(0), seed=seed, rank=rank, world=world, drop_last=True
    )
    train_set = SaliencyDataset(kept, TrainTransform(config.augment), seed)
    training = make_loader(train_set, batches, config.workers, pin)
    validation = None
    if held_out:
        # Dealt out, not padded: every picture is scored once, whatever the number of processes.
        checks = EpochBatches(len(held_out), batch // world // parts, [config.size], seed=seed, rank=rank, world=world)
        validation = make_loader(SaliencyDataset(held_out, EvalTransform(), seed), checks, config.workers, pin)
    files = fingerprint(kept, held_out)
    pictures: dict[str, str | int] = {"training": len(kept), "held_out": len(held_out), "files": files}
    return Loaders(training, batches, validation, pictures)
