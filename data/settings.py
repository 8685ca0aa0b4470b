"""Settings of the data: which files to read and how to change them. Imports no torch, so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from settings.limits import Limit, OptionalSeed, SettingError, Share, Side, check_limits
from utils.hardware import usable_cores


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of an image and its mask in training.

    Args:
        flip: probability of mirroring, left to right.
        crop: the largest part of width and of height that is cut away (F3Net: 1/8).
        rotate: the largest angle, degrees, in both directions; the corners are filled with ImageNet's mean colour
            and are background.
        colour: the largest change of brightness, contrast and saturation: each is a factor drawn from
            [1 - colour, 1 + colour].

    Raises:
        SettingError: a setting is out of its range, which the message gives.
    """

    flip: Share = 0.5
    crop: Annotated[float, Limit(0, 0.9)] = 1 / 8
    rotate: Annotated[float, Limit(0, 180)] = 0.0
    colour: Share = 0.0

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class SizeStage:
    """A stage of multi-scale training: the sides of the square from a share of the run on.

    Attributes:
        start: share of the epochs, 0 for the first stage.
        sizes: sides in pixels; one of them is drawn for each batch.
    """

    start: Share
    sizes: Annotated[list[int], Limit(32, 8192)]

    def __post_init__(self) -> None:
        check_limits(self)
        if not self.sizes:
            raise SettingError("sizes", "[], expected one or more sides of 32 pixels or more.")


@dataclass(frozen=True)
class SeedsConfig:
    """Seeds of what is drawn from the data, to be varied one at a time; null takes the program's `seed`.

    Attributes:
        order: of the images in an epoch, and of the sizes of batches.
        augment: of the augmentation.
        split: of the validation split, or of the halves of a search.
    """

    order: OptionalSeed = None
    augment: OptionalSeed = None
    split: OptionalSeed = None

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class DataConfig:
    """The dataset of a training run.

    Attributes:
        root: a dataset in any layout that `python -m data.check` recognises.
        list_file: one name a line, to train on a part; null for all.
        mask_values: values of the foreground in masks, see `data.masks`; auto finds them.
        held_out: share of the pairs in the validation split, drawn by seed; the best weights are chosen on it.
        size: side in pixels of the square for validation and inference; 256 in the paper.
        stages: multi-scale or progressive training; empty for `size` throughout, as in the released code.
        workers: worker processes that read, for each training process; auto takes the cores of the machine minus 2,
            shared by the training processes, and at least 1.
        cache: keep all images and masks decoded in memory, shared by the workers; about 0.3 MB for an image of
            300x225 pixels.
        augment: random changes of an image and its mask.
    """

    root: Path
    list_file: Path | None = None
    mask_values: str = "auto"
    held_out: Annotated[float, Limit(0, below=1)] = 0.05
    size: Side = 256
    stages: list[SizeStage] = field(default_factory=list)
    workers: Annotated[int | Literal["auto"], Limit(0, 256)] = "auto"
    cache: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        check_limits(self)
        starts = [stage.start for stage in self.stages]
        if starts != sorted(starts):
            raise SettingError("stages", f"start is {starts}, expected the stages in the order of the run.")

    def worker_count(self, processes: int = 1) -> int:
        """Worker processes of one of several training processes."""
        if isinstance(self.workers, int):
            return self.workers
        return max(1, (usable_cores() - 2) // processes)

    def sizes_at(self, done: float) -> list[int]:
        """Sides that batches are drawn from once this share of the run is done."""
        sizes = [self.size]
        for stage in self.stages:
            if done >= stage.start:
                sizes = stage.sizes
        return sizes
