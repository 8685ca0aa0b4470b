"""Settings of a search and of its strategies. Imports no torch by itself, so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from data.settings import AugmentConfig, SeedsConfig
from net.settings import ArchitectConfig, CostConfig, LossConfig, SpaceConfig, alphas_rest
from settings.limits import (
    Count,
    Limit,
    NotNegative,
    OptionalCount,
    OptionalSeed,
    Positive,
    Seed,
    Share,
    Side,
    Workers,
    check_limits,
)
from training.settings import OptimConfig
from utils.errors import UserError
from utils.hardware import DeviceName, Precision

StrategyName = Literal["darts", "effects", "oneshot", "predictor", "proxy", "random"]
ProxyName = Literal["synflow", "gradient_norm", "naswot", "parameters", "macs"]
TOLERANCE = 0.02
"""How far from `cost.target` a genotype may be, as a share."""


class SearchError(UserError):
    """A search that can't start or can't continue."""


def at_least(key: str, value: float, least: float) -> None:
    """Raises SearchError if the value of a key is below `least`."""
    if value < least:
        raise SearchError(f"{key}: {value}, expected {least} or more.")


@dataclass(frozen=True)
class SearchDataConfig:
    """What to search on.

    Attributes:
        root: a dataset in any layout that `python -m data.check` recognises; null generates `scenes` scenes into
            `--out`.
        list_file: one name a line, to search on a part; null for all.
        mask_values: values of the foreground in masks, see `data.masks`; auto finds them.
        images: how many of them to take, drawn by seed; 0 for all.
        alphas: share that trains the alphas; the rest trains the weights. Half each as DARTS.
        size: side in pixels of the square.
        workers: processes that read, for each half.
        scenes: how many scenes to generate where there is no dataset.
        augment: random changes of an image and its mask.
    """

    root: Path | None = None
    list_file: Path | None = None
    mask_values: str = "auto"
    images: OptionalCount = 0
    alphas: Share = 0.5
    size: Side = 256
    workers: Workers = 2
    scenes: Count = 48
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("workers", 0), ("scenes", 1)):
            at_least(f"data.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class SearchSeedsConfig(SeedsConfig):
    """Seeds of what is drawn from the data, see `data.settings.SeedsConfig` for the inherited settings.

    Attributes:
        alphas: of order and augmentation in the alphas' half; null takes one that differs from the weights' half. With
            the same one, as in earlier versions, both halves would be drawn alike.
    """

    alphas: OptionalSeed = None


@dataclass(frozen=True)
class SearchArchitectConfig(ArchitectConfig):
    """How alphas move in the strategy `darts`, see `net.architect.ArchitectConfig` for the inherited settings.

    Attributes:
        outputs: weights of P1, P2, P3 in the loss that the alphas follow. The network is evaluated by P1, so only P1.
        warmup_paths: what runs while the alphas rest. `mixture`: all candidates at equal weights, as PC-DARTS.
            `single`: one candidate an edge, each equally often, so that the kernels of all candidates are trained.
    """

    outputs: Annotated[tuple[float, float, float], Limit(0, 1e9)] = (1.0, 0.0, 0.0)
    warmup_paths: Literal["mixture", "single"] = "mixture"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.outputs) < 0 or not any(self.outputs):
            raise SearchError(
                f"architect.outputs: {list(self.outputs)}, expected weights of 0 (off) or more, at least one above 0."
            )


@dataclass(frozen=True)
class SearchCostConfig(CostConfig):
    """What cells may cost, see `net.cost.CostConfig` for the inherited settings of the cost term of `darts`.

    Attributes:
        limit: greatest multiply-accumulates of all 31 edges on one image; 0 for no limit.
        target: multiply-accumulates of all 31 edges that every genotype has to within 2 %; 0 for none.
    """

    limit: Annotated[float, Limit(0, 1e18)] = 0.0
    target: Annotated[float, Limit(0, 1e18)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("limit", "target"):
            at_least(f"cost.{name}", getattr(self, name), 0)
        if self.limit and self.target > self.limit:
            raise SearchError(f"cost.target: {self.target:.4g} is above cost.limit {self.limit:.4g}. Raise the limit.")


@dataclass(frozen=True)
class WatchConfig:
    """What counts as a collapse, and what to do about it. Thresholds are our choice.

    Attributes:
        skip: warn when more than this share of the derived edges are `skip_connect`.
        entropy: warn when the mean entropy is below this share of the greatest possible before half of the search.
        stop: end the search at a warning, with the genotype of the epoch before.
        gap_batches: batches on which the loss of the mixture is compared with that of the derived edges after each
            epoch; 0 turns that off.
    """

    skip: Share = 0.5
    entropy: Share = 0.1
    stop: bool = False
    gap_batches: OptionalCount = 2

    def __post_init__(self) -> None:
        at_least("watch.gap_batches", self.gap_batches, 0)


@dataclass(frozen=True)
class OneShotConfig:
    """Strategy `oneshot`: a supernet trained by single paths, then scored sub-networks. Our choice unless said.

    Attributes:
        steps: of the supernet's training; each trains one candidate an edge.
        lr: peak rate of AdamW for all but the encoder.
        encoder_lr: peak rate of the encoder.
        weight_decay: of matrices.
        scored: random sub-networks that are scored.
        images: of the alphas' half that every sub-network is scored on.
        effects: what the linear model has an effect for: `edges`, each candidate of each edge; `sites`, each candidate
            in each cell and kind of edge.
        generations: of evolutionary refinement after the linear model's choice; 0 for none.
        population: sub-networks of a generation.
        also: genotype files that the supernet scores as well, into scores.json; they do not change the choice.
    """

    steps: Count = 1200
    lr: Positive = 1e-3
    encoder_lr: NotNegative = 2e-4
    weight_decay: NotNegative = 1e-2
    scored: Count = 600
    images: OptionalCount = 64
    effects: Literal["edges", "sites"] = "edges"
    generations: OptionalCount = 0
    population: Count = 32
    also: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("scored", 2), ("images", 2), ("generations", 0), ("population", 4)):
            at_least(f"oneshot.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class ShortTrainingConfig:
    """How `random` and `predictor` train one genotype, from its own seed.

    Attributes:
        steps: optimizer steps; AdamW with a cosine schedule.
        lr: peak rate of all but the encoder.
        encoder_lr: peak rate of the encoder.
        weight_decay: of matrices.
        images: of the alphas' half that the trained network is scored on; 0 for all.
    """

    steps: Count = 280
    lr: Positive = 1e-3
    encoder_lr: NotNegative = 2e-4
    weight_decay: NotNegative = 1e-2
    images: OptionalCount = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("images", 0)):
            at_least(f"training.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class PredictorConfig:
    """Strategy `predictor`: a linear model of trained genotypes proposes the next ones.

    Attributes:
        initial: random genotypes that are trained first.
        rounds: of proposals.
        proposals: genotypes that are trained in a round.
        pool: random genotypes that a round chooses from, besides neighbours of the best.
    """

    initial: Count = 16
    rounds: OptionalCount = 2
    proposals: Count = 8
    pool: Count = 1000

    def __post_init__(self) -> None:
        for name, least in (("initial", 2), ("rounds", 0), ("proposals", 1), ("pool", 1)):
            at_least(f"predictor.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class EffectsConfig:
    """Strategy `effects`: the best sum of the effects of operations that a table of trainings shows.

    Attributes:
        trainings: trainings.csv of a comparison; the genotypes lie in `genotypes` beside it. `search.py compare` gives
            its own.
        groups: of the trainings to learn from. With a group that a search found, it is a further round of that search.
    """

    trainings: Path | None = None
    groups: list[str] = field(default_factory=lambda: ["random"])


@dataclass(frozen=True)
class ProxyConfig:
    """Strategy `proxy`: the best of `count` random genotypes by a score that needs no training.

    Attributes:
        score: see `nas.strategies.proxy.SCORES`.
        count: genotypes that are scored.
    """

    score: ProxyName = "synflow"
    count: Count = 100

    def __post_init__(self) -> None:
        at_least("proxy.count", self.count, 1)


@dataclass(frozen=True)
class RandomConfig:
    """Strategy `random`: the best of `count` random genotypes, each trained with the settings `training`.

    Attributes:
        count: genotypes that are drawn and trained; 1 draws one and trains none.
    """

    count: Count = 8

    def __post_init__(self) -> None:
        at_least("random.count", self.count, 1)


@dataclass(frozen=True)
class SearchConfig:
    """A whole search. The authors' is not public: every default is DARTS' or our choice, none is the paper's.

    Attributes:
        strategy: `darts`, `effects`, `oneshot`, `predictor`, `proxy` or `random`, see docs/search.md.
        data: images and their halves.
        space: encoder, width, candidates.
        architect: how alphas move; `darts`.
        cost: term for cheap cells (`darts`), limit and target (all).
        effects: settings of that strategy, as for those that follow.
        oneshot: a supernet trained by single paths.
        predictor: proposals by a linear model.
        proxy: scores without training.
        random: best of n.
        training: how `predictor` and `random` train one genotype.
        optim: how the weights of `darts` move; DARTS' rates, a tenth for the encoder.
        loss: of weights and alphas; without polishing, which has little effect while maps are blurred.
        watch: what counts as a collapse; `darts`.
        plugins: Python files that register your own parts, see `settings.plugins`; they run before anything is built.
        encoder_weights: `imagenet` (the library downloads them), a path, or `none`.
        epochs: passes of `darts` over the half that trains the weights; 50 in DARTS. The other half is read again from
            its beginning when it is used up.
        batch: images a step, over all processes, the same for weights and alphas.
        seed: of everything that is drawn.
        seeds: of order, augmentation, halves and the alphas' half where they shall differ from it.
        device: auto, cpu, cuda or mps.
        precision: auto measures for about 3 s which one is fastest; the second order computes in fp32.
        save_every: steps between checkpoints; one is written at the end of every epoch as well.
        save_minutes: minutes between checkpoints, where that comes first; 0 counts steps only.
        sync_batchnorm: BatchNorm over the images of all processes instead of each one's own, in the steps of `darts`.
        deterministic: repeat to the bit on CUDA as well; slower there, no effect on a CPU, which always does.
        out: folder of the search.
    """

    strategy: StrategyName = "darts"
    data: SearchDataConfig = field(default_factory=SearchDataConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    architect: SearchArchitectConfig = field(default_factory=SearchArchitectConfig)
    cost: SearchCostConfig = field(default_factory=SearchCostConfig)
    effects: EffectsConfig = field(default_factory=EffectsConfig)
    oneshot: OneShotConfig = field(default_factory=OneShotConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    random: RandomConfig = field(default_factory=RandomConfig)
    training: ShortTrainingConfig = field(default_factory=ShortTrainingConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=0.025, encoder_lr=0.0025, weight_decay=3e-4, schedule="cosine", warmup=0.0, clip=5.0
        )
    )
    loss: LossConfig = field(default_factory=lambda: LossConfig(polish=0.0))
    watch: WatchConfig = field(default_factory=WatchConfig)
    plugins: list[Path] = field(default_factory=list)
    encoder_weights: str = "imagenet"
    epochs: Count = 50
    batch: Count = 8
    seed: Seed = 0
    seeds: SearchSeedsConfig = field(default_factory=SearchSeedsConfig)
    device: DeviceName = "auto"
    precision: Precision = "auto"
    save_every: Count = 100
    save_minutes: NotNegative = 15.0
    sync_batchnorm: bool = False
    deterministic: bool = False
    out: Path = Path("runs/search")

    def __post_init__(self) -> None:
        check_limits(self)
        for name in ("epochs", "batch", "save_every"):
            at_least(name, getattr(self, name), 1)
        if alphas_rest(self.architect, self.epochs - 1, self.epochs):
            raise SearchError(
                f"architect.warmup: {self.architect.warmup} of {self.epochs} epochs leaves none in which the alphas "
                f"move, so chance would choose the cells. Give more epochs or a shorter warm-up."
            )
