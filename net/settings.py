"""Settings of networks, losses and searches. No PyTorch here, so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from settings.limits import Channels, Count, Limit, NotNegative, Positive, SettingError, Share, check_limits

Topology = Literal["released", "figure"]
Context = Literal["none", "gate", "attention"]
PAPER_SPACE = (
    "none", "skip_connect", "conv_3x3", "conv_3x3_rp2", "sep_conv_3x3", "sep_conv_3x3_rp2", "dil_conv_3x3",
    "dil_conv_3x3_rp2", "dil_conv_3x3_dil4", "ChannelAttention", "SpatialAttention",
)  # fmt: skip
Window = Annotated[int, Limit(3, 255)]


@dataclass(frozen=True)
class NetworkConfig:
    """Which network to build.

    Attributes:
        encoder: `resnet50` or `vgg16` (the paper's), or any timm model that supports `features_only`.
        genotype: shipped name (`resnet50`, `vgg16`, `lite`) or path of a genotype JSON. Its topology is its own.
        channels: width C of laterals and cells; 128 in the paper.
        context: block on E5 that sees the whole image: `none` (the paper's), `gate` or `attention`, see `net.context`.
            Our addition, see docs/recipes.md for its worth. It starts as the identity. A search has none.
    """

    encoder: str = "resnet50"
    genotype: str = "resnet50"
    channels: Channels = 128
    context: Context = "none"

    def __post_init__(self) -> None:
        check_limits(self)
        if self.context not in get_args(Context):  # the settings of a file of weights pass no parser
            raise SettingError("context", f"{self.context!r}, expected one of {', '.join(get_args(Context))}.")


@dataclass(frozen=True)
class LossConfig:
    """Terms of the loss. All defaults are our reading, none is published.

    Attributes:
        bce: weight of binary cross-entropy; 0 turns the term off (so for the others).
        iou: weight of the soft IoU loss.
        polish: weight of the polishing loss.
        outputs: weights of P1, P2, P3; Figure 2 shows none, so all are 1.
        theta0: width in pixels of the window that extracts a boundary; odd. The source advises 3.
        theta: width in pixels of the tolerance for P1, P2, P3; odd. Growing widths are our reading of
            "progressive"; three equal ones give the plain boundary loss.
        ramp: share of the run over which the weight of the polishing loss grows from 0 to `polish`. A blurred map
            has a boundary loss near 1, whose gradient hardly moves the boundary.
        terms: weights of further terms by name, which files of `--plugins` register with `net.losses.loss_term`.
    """

    bce: NotNegative = 1.0
    iou: NotNegative = 1.0
    polish: NotNegative = 1.0
    outputs: Annotated[tuple[float, float, float], Limit(0, 1e9)] = (1.0, 1.0, 1.0)
    theta0: Window = 3
    theta: Annotated[tuple[int, int, int], Limit(3, 255)] = (3, 5, 7)
    ramp: Share = 0.0
    terms: dict[str, float] | None = None

    def __post_init__(self) -> None:
        check_limits(self)
        for name, widths in (("theta0", [self.theta0]), ("theta", self.theta)):
            if any(width % 2 == 0 for width in widths):
                raise SettingError(name, f"{getattr(self, name)} pixels, expected odd numbers.")
        if not any(self.outputs):
            raise SettingError("outputs", "all weights are 0, so nothing would be learnt. Set one above 0.")
        for name, weight in (self.terms or {}).items():
            if problem := Limit(0, 1e9).problem(weight):
                raise SettingError(f"terms.{name}", problem)
        if not any((self.bce, self.iou, self.polish, *(self.terms or {}).values())):
            raise SettingError("bce", "bce, iou and polish are all 0, so nothing would be learnt. Set one above 0.")


@dataclass(frozen=True)
class SpaceConfig:
    """What is searched.

    Attributes:
        encoder: as `NetworkConfig.encoder`.
        channels: width C of laterals and cells; 128 in the paper.
        operations: candidates of every edge; the paper's eleven (Figure 7).
        topology: `released` or `figure`, see `net.wiring`.
        partial: K of PC-DARTS; 1 sends all channels through the candidates.
        outer_none: whether the searched cells may have `none` on outer edges. The published VGG-16 cells do; DARTS
            leaves it out, since its weight does not measure its value.
    """

    encoder: str = "resnet50"
    channels: Channels = 128
    operations: list[str] = field(default_factory=lambda: list(PAPER_SPACE))
    topology: Topology = "released"
    partial: Count = 1
    outer_none: bool = False

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class ArchitectConfig:
    """How the alphas are trained. Sources: DARTS' code unless said otherwise.

    Attributes:
        order: `first`, or `second` (about three times as slow, in float32, weights by sgd).
        lr: of Adam. DARTS' 3e-4 suits its tens of thousands of steps; a step moves an alpha by about `lr`, and a
            candidate stands out when its alpha leads by 3, so a short search needs about 6 / (number of steps).
        betas: of Adam.
        weight_decay: pulls alphas back to 0, hence to equal shares.
        clip: greatest norm of the gradient of all alphas; 0 turns clipping off.
        warmup: share of the epochs in which alphas rest while weights learn; .3 as PC-DARTS (15 of 50 epochs).
        temperature: of the softmax at the start and at the end, geometric between; 1 throughout is DARTS.
        auxiliary: DARTS-' factor of an additional skip on every edge at the start, falling linearly to 0 at the end.
        radius: how far the finite difference of the second order moves all weights together, to either side.
    """

    order: Literal["first", "second"] = "first"
    lr: Positive = 3e-4
    betas: Annotated[tuple[float, float], Limit(0, below=1)] = (0.5, 0.999)
    weight_decay: NotNegative = 1e-3
    clip: NotNegative = 5.0
    warmup: Annotated[float, Limit(0, below=1)] = 0.3
    temperature: Annotated[tuple[float, float], Limit(above=0, most=1e9)] = (1.0, 1.0)
    auxiliary: NotNegative = 0.0
    radius: Positive = 0.01

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class CostConfig:
    """A cost term of the search.

    Attributes:
        kind: `none`; `macs`, expected multiply-accumulates of all edges; `latency`, their expected time by a table.
        weight: of the term in the loss of the alphas.
        table: JSON file that `python benchmarks/operations.py` has measured on the device that matters to you.
    """

    kind: Literal["none", "macs", "latency"] = "none"
    weight: NotNegative = 0.1
    table: Path | None = None

    def __post_init__(self) -> None:
        check_limits(self)
        if self.kind == "latency" and self.table is None:
            raise SettingError("table", "kind latency needs one. Measure it: python benchmarks/operations.py.")


def relaxation(config: ArchitectConfig, epoch: int, epochs: int) -> tuple[float, float]:
    """Temperature of the softmax and factor of the auxiliary skip in an epoch, counted from 0."""
    done = epoch / max(epochs - 1, 1)
    first, last = config.temperature
    return first * (last / first) ** done, config.auxiliary * (1 - done)


def alphas_rest(config: ArchitectConfig, epoch: int, epochs: int) -> bool:
    """Whether an epoch, counted from 0, belongs to the warm-up."""
    return epoch < config.warmup * epochs
