"""Settings of a training run, without PyTorch, so that `train.py --help` is quick."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.settings import DataConfig
from net.settings import LossConfig, NetworkConfig
from utils.errors import UserError
from utils.settings import DeviceName, Precision


class TrainError(UserError):
    """A run that cannot start or cannot continue."""


class OptimError(UserError):
    """Optimizer settings that can't work."""


class AverageError(UserError):
    """Settings of the weight average that can't work."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule. Defaults are F3Net's recipe (its public code), which LDF shares.

    Attributes:
        name: `sgd` (nesterov) or `adamw`.
        lr: peak learning rate of everything but the encoder.
        encoder_lr: peak learning rate of the encoder; a tenth in F3Net.
        weight_decay: of all parameters, or of matrices only, see `decay_vectors`.
        decay_vectors: whether biases and BatchNorm parameters decay as well; they do in F3Net.
        momentum: of sgd.
        schedule: `triangular` (F3Net: up to the middle of the run, then down, changed every epoch) or
            `cosine` (linear warm-up, then half a cosine to 0, changed every step).
        warmup: share of the run that `cosine` warms up.
        clip: greatest norm of the gradient; 0 turns clipping off.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    encoder_lr: float = 0.005
    weight_decay: float = 5e-4
    decay_vectors: bool = True
    momentum: float = 0.9
    schedule: Literal["triangular", "cosine"] = "triangular"
    warmup: float = 0.05
    clip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "encoder_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptimError(f"optim.{name}: {getattr(self, name)}, expected a finite rate above 0.")
        for name, top in (("weight_decay", math.inf), ("momentum", 1), ("warmup", 1), ("clip", math.inf)):
            if not 0 <= getattr(self, name) < top:
                raise OptimError(f"optim.{name}: {getattr(self, name)}, expected 0 or more and less than {top}.")


@dataclass(frozen=True)
class AverageConfig:
    """Running average of the weights. Not in the paper nor the released code; off by default.

    Attributes:
        decay: share of the old average that remains after a step, once warmed up; 0 turns averaging off. .999 spans
            the last thousand steps.
        warmup: the decay of step t is at most (1 + t) / (warmup + t); 10 as in TensorFlow, 1 is no warm-up.
    """

    decay: float = 0.0
    warmup: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise AverageError(f"average.decay: {self.decay}, expected 0 (off) or more and less than 1, such as .999.")
        if not 1 <= self.warmup < math.inf:
            raise AverageError(f"average.warmup: {self.warmup}, expected 1 (no warm-up) or more, such as 10.")


FREE = frozenset({"out", "operations", "plugins", "save_every", "log_every", "data.workers", "data.root", "device"})
"""Settings that may change when a run resumes, since they have no effect on its weights."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Where a default is not the paper's or the released code's it is our choice, see the README.

    Attributes:
        data: the images, their validation split and augmentation.
        network: encoder, genotype, width.
        plugins: Python files that register your own parts, see `utils.plugins`; they run before anything is built.
        loss: terms and weights.
        optim: optimizer and learning-rate schedule.
        average: running average of the weights, which is validated and kept as the best where it is on.
        encoder_weights: `imagenet` (the library downloads them), a path, or `none`.
        freeze_stem: leave the encoder's first convolution and its BatchNorm as they are; F3Net does.
        epochs: passes over the training images; 48 as LDF's first stage.
        batch: images of a step, over all processes and parts; 32 as F3Net.
        accumulate: parts that each process computes its share of a step in, where memory is short. Gradients are those
            of the whole; BatchNorm sees one part at a time.
        sync_batchnorm: BatchNorm over the images of all processes; CUDA only.
        compile: run the network through torch.compile; minutes at the start and after each change of size.
        seed: of everything that is drawn.
        device: auto, cpu, cuda or mps.
        precision: auto takes bf16 where the hardware has it.
        log_every: steps between lines of the log.
        save_every: steps between checkpoints; one is written after every epoch as well.
        out: folder of the run; with several machines one that all of them see.
    """

    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    plugins: list[Path] = field(default_factory=list)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    encoder_weights: str = "imagenet"
    freeze_stem: bool = False
    epochs: int = 48
    batch: int = 32
    accumulate: int = 1
    sync_batchnorm: bool = False
    compile: bool = False
    seed: int = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    log_every: int = 20
    save_every: int = 200
    out: Path = Path("runs/train")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise TrainError(f"{name}: {getattr(self, name)}, expected 1 or more.")
