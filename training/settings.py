"""Settings of a training run, without PyTorch, so that `train.py --help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from data.settings import DataConfig, SeedsConfig
from net.settings import LossConfig, NetworkConfig
from settings.limits import Count, Limit, NotNegative, Seed, SettingError, check_limits
from utils.errors import UserError
from utils.hardware import DeviceName, Precision


class TrainError(UserError):
    """A run that cannot start or cannot continue."""


Rate = Annotated[float, Limit(above=0, most=1e32)]


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
    lr: Rate = 0.05
    encoder_lr: Rate = 0.005
    weight_decay: NotNegative = 5e-4
    decay_vectors: bool = True
    momentum: Annotated[float, Limit(0, below=1)] = 0.9
    schedule: Literal["triangular", "cosine"] = "triangular"
    warmup: Annotated[float, Limit(0, below=1)] = 0.05
    clip: NotNegative = 0.0

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class AverageConfig:
    """Running average of the weights. Not in the paper nor the released code; off by default.

    Attributes:
        decay: share of the old average that remains after a step, once warmed up; 0 turns averaging off. .999 spans
            the last thousand steps.
        warmup: the decay of step t is at most (1 + t) / (warmup + t); 10 as in TensorFlow, 1 is no warm-up.
    """

    decay: Annotated[float, Limit(0, below=1)] = 0.0
    warmup: Annotated[float, Limit(1, 1e9)] = 10.0

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class DistillationConfig:
    """Soft maps of a teacher as a second target. Not in the paper nor the released code; off by default.

    Attributes:
        maps: folder of a teacher's saliency maps, one for each training image, named as `test.py` names maps. The
            teacher must not have seen a benchmark.
        weight: w of the loss (1 - w) * loss with the mask + w * BCE with the soft map; null is 0.5 where maps are
            given.
    """

    maps: Path | None = None
    weight: Annotated[float | None, Limit(above=0, most=1)] = None

    def __post_init__(self) -> None:
        check_limits(self)
        if self.weight is not None and self.maps is None:
            raise SettingError("weight", f"{self.weight:g} without soft maps. Give distillation.maps, or no weight.")

    @property
    def share(self) -> float:
        """The weight that applies where maps are given."""
        return 0.5 if self.weight is None else self.weight


FREE = frozenset({
    "out", "operations", "plugins", "save_every", "save_minutes", "log_every", "data.workers", "data.cache",
    "data.root", "device", "distillation.maps", "precision",
})  # fmt: skip
"""Settings that may change when a run resumes. Device, precision and the code of plugins are facts,
as are the names of images and soft maps: facts are compared."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Where a default is not the paper's or the released code's it is our choice, see the README.

    Attributes:
        data: the images, their validation split and augmentation.
        network: encoder, genotype, width, context.
        plugins: Python files that register your own parts, see `settings.plugins`; they run before anything is built.
        loss: terms and weights.
        distillation: soft maps of a teacher as a second target.
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
        init: weights to start from: a shipped name, an own file or one in the authors' layout. Encoder and cells may
            differ; what fits is taken and listed.
        seed: of everything that is drawn.
        seeds: of order, augmentation and validation split where they shall differ from it.
        device: auto, cpu, cuda or mps.
        precision: auto measures for about 3 s which one is fastest; a run that resumes keeps its precision.
        validate_every: epochs between validations; the last epoch is always validated. More than 1 where scoring takes
            a large share of an epoch, as on a GPU.
        log_every: steps between lines of the log.
        save_every: steps between checkpoints; one is written at the end of every epoch as well.
        save_minutes: minutes between checkpoints, where that comes first; 0 counts steps only.
        deterministic: repeat to the bit on CUDA as well; slower there, no effect on a CPU, which always does.
        out: folder of the run; with several machines one that all of them see.
    """

    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    plugins: list[Path] = field(default_factory=list)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    encoder_weights: str = "imagenet"
    freeze_stem: bool = False
    epochs: Count = 48
    batch: Count = 32
    accumulate: Count = 1
    sync_batchnorm: bool = False
    compile: bool = False
    init: str | None = None
    seed: Seed = 0
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    device: DeviceName = "auto"
    precision: Precision = "auto"
    validate_every: Count = 1
    log_every: Count = 20
    save_every: Count = 200
    save_minutes: NotNegative = 15.0
    deterministic: bool = False
    out: Path = Path("runs/train")

    def __post_init__(self) -> None:
        check_limits(self)
