"""Trains Auto-MSFNet on DUTS-TR or on any folder of pictures and masks.

    python train.py --config configs/lite.yaml --data.root DUTS-TR
    python train.py --data.root MY-DATA --network.encoder resnet50 --epochs 20

A run that is stopped goes on with the same command. What it writes goes to `--out`: last.pt (to go on),
best.safetensors (to test), config.json, log.jsonl, tensorboard/.
"""

import json
import math
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.datasets import Batch, EpochBatches, PairLoader, SaliencyDataset, make_loader, split_pairs
from data.layouts import find_pairs
from data.transforms import MEAN, STD, AugmentConfig, EvalTransform, TrainTransform
from net.auto_msfnet import AutoMSFNet, NetworkConfig, build_network
from net.cpu_kernels import accelerate
from net.losses import LossConfig, LossTerms, saliency_loss
from utils.checkpoint import FORMAT, load_checkpoint, save_checkpoint, save_weights
from utils.config import parse, to_plain
from utils.device import DeviceName, Precision, autocast, banner, choose_device, choose_precision, keep_memory
from utils.errors import UserError, exit_on_user_error
from utils.optim import OptimConfig, build_optimizer, rate_factor
from utils.runlog import RunLog
from utils.validation import validate


class TrainError(UserError):
    """A run that can't start or can't go on."""


@dataclass(frozen=True)
class SizeStage:
    """From a share of the run on, the sides of the square that batches are drawn at.

    Attributes:
        start: share of the epochs, 0 for the first stage.
        sizes: sides in pixels; one of them is drawn for each batch.
    """

    start: float
    sizes: list[int]


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    Attributes:
        root: a data set in any layout that `python -m data.check` knows.
        list_file: one name a line, to train on a part; null for all.
        held_out: share of the pairs, drawn by seed, that training never sees and that the best weights are chosen on.
        size: side in pixels of the square for validation and inference; 256 in the paper.
        stages: multi-scale or progressive training; empty for `size` throughout, as in the released code.
        workers: processes that read.
        augment: random changes of a picture and its mask.
    """

    root: Path
    list_file: Path | None = None
    held_out: float = 0.05
    size: int = 256
    stages: list[SizeStage] = field(default_factory=list)
    workers: int = 2
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Where a default is not the paper's or the released code's it is our choice, see the README.

    Attributes:
        data: pictures.
        network: encoder, genotype, width.
        loss: terms and weights.
        optim: optimizer and schedule.
        encoder_weights: `imagenet` (the library downloads them), a path, or `none`.
        epochs: passes over the training part; 48 as LDF's first stage.
        batch: pictures a step; 32 as F3Net.
        seed: of everything that is drawn.
        device: auto, cpu, cuda or mps.
        precision: auto takes bf16 where the hardware has it.
        save_every: steps between checkpoints; one is written after every epoch as well.
        out: folder of the run.
    """

    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    encoder_weights: str = "imagenet"
    epochs: int = 48
    batch: int = 32
    seed: int = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    save_every: int = 200
    out: Path = Path("runs/train")


@dataclass
class Progress:
    """Where a run stands: the next batch to train on, and the best validation so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -math.inf


@dataclass(frozen=True)
class Run:
    """Everything that the loop works with."""

    config: TrainConfig
    network: AutoMSFNet
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: Literal["fp32", "bf16", "fp16"]
    training: PairLoader
    batches: EpochBatches
    validation: PairLoader
    log: RunLog
    progress: Progress
    scaler: torch.amp.GradScaler


# ---------------------------------------------------------------------------------------------- set up


def main() -> int:
    """Trains, or goes on where the last run stopped."""
    config = parse(TrainConfig, "Train Auto-MSFNet.")
    keep_memory()
    run = set_up(config)
    stop = StopRequest()
    while run.progress.epoch < config.epochs:
        train_one_epoch(run, stop)
        if stop.requested:
            save(run)
            print(f"stopped by {stop.requested}; the same command goes on at step {run.progress.step}")
            return 130
        finish_epoch(run)
    run.log.close()
    print(f"best weighted F on the held-out part: {run.progress.best:.4f}")
    print(f"test it: python test.py --weights {config.out / 'best.safetensors'} --data NAME=DIR")
    return 0


def set_up(config: TrainConfig) -> Run:
    """Builds everything in a fixed order: seeds, network, optimizer, then the state of an earlier run over them."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    print(banner(device, precision))
    seed_everything(config.seed)
    weights = None if config.encoder_weights == "none" else config.encoder_weights
    network = build_network(config.network, weights).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if device.type == "cpu":
        accelerate(network)
    optimizer = build_optimizer(network, config.optim)
    training, batches, validation = build_loaders(config, device)
    progress, scaler = Progress(), torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    config.out.mkdir(parents=True, exist_ok=True)
    last = config.out / "last.pt"
    if last.is_file():
        restore(load_checkpoint(last), config, network, optimizer, scaler, progress)
        print(f"going on from {last}: epoch {progress.epoch + 1}, step {progress.step}")
    (config.out / "config.json").write_text(json.dumps(to_plain(config), indent=2) + "\n", encoding="utf-8")
    log = RunLog(config.out, progress.step)
    return Run(
        config, network, optimizer, device, precision, training, batches, validation, log, progress, scaler
    )  # fmt: skip


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch. Samples have seeds of their own, see data.datasets."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build_loaders(config: TrainConfig, device: torch.device) -> tuple[PairLoader, EpochBatches, PairLoader]:
    """Loaders of the training and the held-out part, and the sampler that says where the first one stands."""
    pairs = find_pairs(config.data.root, config.data.list_file)
    kept, held_out = split_pairs(pairs, config.data.held_out, config.seed)
    print(f"{len(kept)} pictures to train on, {len(held_out)} held out")
    batches = EpochBatches(len(kept), config.batch, sizes_of(config, 0), seed=config.seed, drop_last=True)
    pin = device.type == "cuda"
    training = make_loader(
        SaliencyDataset(kept, TrainTransform(config.data.augment), config.seed), batches, config.data.workers, pin
    )
    checks = EpochBatches(max(len(held_out), 1), config.batch, [config.data.size], seed=config.seed)
    validation = make_loader(SaliencyDataset(held_out, EvalTransform(), config.seed), checks, config.data.workers, pin)
    return training, batches, validation


def sizes_of(config: TrainConfig, epoch: int) -> list[int]:
    """Sides that the batches of an epoch are drawn from."""
    sizes = [config.data.size]
    for stage in config.data.stages:
        if epoch >= stage.start * config.epochs:
            sizes = stage.sizes
    return sizes


# ----------------------------------------------------------------------------------------- train an epoch


def train_one_epoch(run: Run, stop: "StopRequest") -> None:
    """Trains from the run's position to the end of the epoch, or to the batch after a request to stop."""
    config, progress = run.config, run.progress
    run.batches.sizes = tuple(sizes_of(config, progress.epoch))
    run.batches.set_position(progress.epoch, progress.batch)
    bar = tqdm(
        run.training, desc=f"epoch {progress.epoch + 1}/{config.epochs}", initial=progress.batch,
        total=run.batches.per_epoch, unit="batch", disable=None,
    )  # fmt: skip
    run.network.train()
    since, pictures = time.perf_counter(), 0
    for batch in bar:
        rate = set_rate(run)
        terms, norm = train_step(run, batch)
        progress.batch, progress.step, pictures = progress.batch + 1, progress.step + 1, pictures + len(batch.index)
        if progress.step % 20 == 0:
            speed, since, pictures = pictures / (time.perf_counter() - since), time.perf_counter(), 0
            report(run, terms, norm, rate, speed)
            bar.set_postfix(loss=f"{terms.total.item():.3f}", images_per_s=f"{speed:.1f}")
        if stop.requested:
            return
        if progress.step % config.save_every == 0:
            save(run)


def set_rate(run: Run) -> float:
    """Sets the learning rates for the next step and returns their share of the peak."""
    progress = run.progress
    factor = rate_factor(
        run.config.optim, progress.epoch, progress.batch, run.batches.per_epoch, run.config.epochs
    )  # fmt: skip
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return factor


def train_step(run: Run, batch: Batch) -> tuple[LossTerms, Tensor]:
    """One step of the optimizer; returns the loss and the gradient's norm before clipping."""
    image = batch.image.to(run.device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
    mask = batch.mask.to(run.device, non_blocking=True)  # (B, 1, S, S)
    with autocast(run.device, run.precision):
        logits = run.network(image)
    terms = saliency_loss(logits, mask, run.config.loss)
    if not torch.isfinite(terms.total):
        raise TrainError(stop_on_non_finite(run, batch, terms))
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(terms.total).backward()
    run.scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), run.config.optim.clip or math.inf)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return terms, norm


def stop_on_non_finite(run: Run, batch: Batch, terms: LossTerms) -> str:
    """Saves the batch beside the checkpoint, which stays as it was, and says what to do."""
    path = run.config.out / "non_finite_batch.pt"
    save_checkpoint(path, {"image": batch.image, "mask": batch.mask, "index": batch.index})
    values = ", ".join(f"{name} {value.item():.4g}" for name, value in terms._asdict().items())
    return (
        f"the loss is not finite at step {run.progress.step} ({values}). The batch is in {path}, the last good state "
        f"in {run.config.out / 'last.pt'}. Lower optim.lr, set optim.clip, or use --precision fp32."
    )


def report(run: Run, terms: LossTerms, norm: Tensor, rate: float, speed: float) -> None:
    """Logs one step."""
    losses = {f"loss/{name}": value.item() for name, value in terms._asdict().items()}
    values = {"train/gradient_norm": norm.item(), "train/rate_factor": rate, "train/images_per_s": round(speed, 2)}
    run.log.scalars(run.progress.step, {**losses, **values, "train/epoch": run.progress.epoch})


def finish_epoch(run: Run) -> None:
    """Validates, keeps the best weights, moves on to the next epoch and saves."""
    config, progress = run.config, run.progress
    progress.epoch, progress.batch = progress.epoch + 1, 0
    if config.data.held_out > 0:
        scores = validate(run.network, tqdm(run.validation, "validate", disable=None), run.device, run.precision)
        run.log.scalars(progress.step, {f"validation/{name}": value for name, value in scores.items()})
        print(f"epoch {progress.epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        show(run)
    else:
        scores = {"wfm": float(progress.epoch)}  # nothing to choose on: the last epoch is the best
    if scores["wfm"] > progress.best:
        progress.best = scores["wfm"]
        notes = {"epoch": progress.epoch, "step": progress.step, "held_out": scores, "config": to_plain(config)}
        save_weights(config.out / "best.safetensors", run.network, config.network, config.data.size, notes)
    save(run)


@torch.inference_mode()
def show(run: Run) -> None:
    """Logs a few held-out pictures with their masks and all three maps, side by side."""
    batch: Batch = next(iter(run.validation))
    image, mask = batch.image[:4], batch.mask[:4]
    with autocast(run.device, run.precision):
        logits = run.network(image.to(run.device))
    plain = image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    maps = [mask, *(torch.sigmoid(output.float().cpu()) for output in logits)]
    row = torch.cat([plain, *(one.expand(-1, 3, -1, -1) for one in maps)], dim=3)  # (B, 3, S, 5 * S)
    run.log.pictures(run.progress.step, "image, mask, P1, P2, P3", row.clamp(0, 1))


# ------------------------------------------------------------------------------------------ save and go on


class StopRequest:
    """Remembers that SIGTERM or Ctrl-C came, so that the loop can save and leave between two batches."""

    def __init__(self) -> None:
        self.requested = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name


def save(run: Run) -> None:
    """Writes last.pt: all that a run needs to go on, and all that a reader needs to rebuild the network."""
    state: dict[str, Any] = {
        "format": FORMAT,
        "network": asdict(run.config.network),
        "genotype": run.network.genotype.to_json(),
        "size": run.config.data.size,
        "config": to_plain(run.config),
        "weights": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "progress": asdict(run.progress),
        "random": {"torch": torch.get_rng_state()},
    }
    save_checkpoint(run.config.out / "last.pt", state)


def restore(
    state: dict[str, Any], config: TrainConfig, network: AutoMSFNet, optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler, progress: Progress,
) -> None:  # fmt: skip
    """Puts a saved state over freshly built parts.

    Raises:
        TrainError: if the run was made with settings that would give another result.
    """
    check_same(state["config"], to_plain(config))
    network.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"]["torch"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)


def check_same(before: Any, now: Any, key: str = "") -> None:
    """Refuses to go on with settings that matter and have changed; names the key and both values."""
    if key in {"out", "save_every", "data.workers", "data.root", "device"}:  # free to change: no effect on the weights
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            check_same(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        raise TrainError(
            f"{key}: the run in --out was started with {before}, now it is {now}. Give the same value to go on, or "
            f"another --out to start anew."
        )


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
