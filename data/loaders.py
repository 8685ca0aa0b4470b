"""What a run trains on and what it is validated on: settings, and the loaders that they give."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.datasets import EpochBatches, PairLoader, SaliencyDataset, fingerprint, make_loader, split_pairs
from data.errors import DataError
from data.layouts import find_pairs
from data.transforms import AugmentConfig, EvalTransform, TrainTransform


@dataclass(frozen=True)
class SizeStage:
    """From a share of the run on, the sides of the square that batches are drawn at.

    Attributes:
        start: share of the epochs, 0 for the first stage.
        sizes: sides in pixels; one of them is drawn for each batch.
    """

    start: float
    sizes: list[int]

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise DataError(f"data.stages: start is {self.start}, expected a share of the epochs between 0 and 1.")
        if not self.sizes or min(self.sizes) < 32:
            raise DataError(f"data.stages: sizes are {self.sizes}, expected one or more sides of 32 pixels or more.")


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    Attributes:
        root: a data set in any layout that `python -m data.check` knows.
        list_file: one name a line, to train on a part; null for all.
        held_out: share of the pairs, drawn by seed, that training never sees and that the best weights are chosen on.
        size: side in pixels of the square for validation and inference; 256 in the paper.
        stages: multi-scale or progressive training; empty for `size` throughout, as in the released code.
        workers: processes that read, for each process that trains.
        augment: random changes of a picture and its mask.
    """

    root: Path
    list_file: Path | None = None
    held_out: float = 0.05
    size: int = 256
    stages: list[SizeStage] = field(default_factory=list)
    workers: int = 2
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.size < 32:
            raise DataError(f"data.size: {self.size} pixels, expected 32 or more.")
        if self.workers < 0:
            raise DataError(f"data.workers: {self.workers}, expected 0 (read in the training process) or more.")
        starts = [stage.start for stage in self.stages]
        if starts != sorted(starts):
            raise DataError(f"data.stages: start goes {starts}, expected the stages in the order of the run.")

    def sizes_at(self, done: float) -> list[int]:
        """Sides that batches are drawn from once this share of the run is done."""
        sizes = [self.size]
        for stage in self.stages:
            if done >= stage.start:
                sizes = stage.sizes
        return sizes


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
