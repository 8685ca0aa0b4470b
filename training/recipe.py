"""A training recipe: every setting of a run, put together from those of its parts."""

from dataclasses import dataclass, field
from pathlib import Path

from data.settings import DataConfig
from net.auto_msfnet import NetworkConfig
from net.losses import LossConfig
from training.ema import AverageConfig
from training.optim import OptimConfig
from utils.device import DeviceName, Precision
from utils.errors import UserError

FREE = frozenset({"out", "operations", "save_every", "log_every", "data.workers", "data.root", "device"})
"""Settings that a run may go on with changed, since they have no effect on its weights."""


class TrainError(UserError):
    """A run that can't start or can't go on."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Where a default is not the paper's or the released code's it is our choice, see the README.

    Attributes:
        data: pictures.
        network: encoder, genotype, width.
        operations: Python files that register operations of yours, see the README; run before anything is built.
        loss: terms and weights.
        optim: optimizer and schedule.
        average: running average of the weights, which is validated and kept as the best where it is on.
        encoder_weights: `imagenet` (the library downloads them), a path, or `none`.
        freeze_stem: leave the encoder's first convolution and its BatchNorm as they are; F3Net does.
        epochs: passes over the training part; 48 as LDF's first stage.
        batch: pictures a step, over all processes and parts; 32 as F3Net.
        accumulate: parts that each process computes its share of a step in, where memory is short. Gradients are those
            of the whole; BatchNorm sees one part at a time.
        sync_batchnorm: BatchNorm over the pictures of all processes; CUDA alone.
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
    operations: list[Path] = field(default_factory=list)
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
