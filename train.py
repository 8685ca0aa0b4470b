"""Trains Auto-MSFNet on DUTS-TR or on any folder of pictures and masks.

    python train.py --config configs/lite.yaml --data.root DUTS-TR
    python train.py --data.root MY-DATA --network.encoder resnet50 --epochs 20
    torchrun --nproc-per-node 4 train.py --config configs/resnet50.yaml --data.root DUTS-TR

A run that is stopped goes on with the same command. What it writes goes to `--out`: last.pt and previous.pt (to go
on), best.safetensors (to test), config.json, log.jsonl, tensorboard/.
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.datasets import Batch, SaliencyDataset
from data.loaders import Loaders, build_loaders
from inference.weights import save_weights
from net.auto_msfnet import AutoMSFNet, build_network
from net.cpu_kernels import accelerate
from net.encoder import stem
from net.losses import LossTerms, saliency_loss
from training.ema import Average
from training.optim import build_optimizer, rate_factor
from training.run_folder import claim
from training.run_log import RunLog
from training.settings import FREE, TrainConfig, TrainError
from training.state import (
    Progress,
    StateError,
    check_same,
    load_newest,
    random_state,
    save_newest,
    seed_everything,
    set_random_state,
)
from training.stop_request import StopRequest
from training.summary import listed, summary
from training.throughput import Pace, UpdateNorm, peak_memory
from training.validation import picture_rows, validate
from utils.checkpoint import FORMAT, save_checkpoint
from utils.config import parse, to_plain
from utils.device import autocast, banner, choose_device, choose_precision, keep_memory
from utils.distributed import Processes, join, synchronise_batchnorm
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.plugins import run_files

LAYOUT = 2  # of last.pt


@dataclass(frozen=True)
class Run:
    """Everything that the loop works with. `model` is the network as it is called in training: wrapped, compiled."""

    config: TrainConfig
    processes: Processes
    network: AutoMSFNet
    model: nn.Module
    frozen: list[nn.Module]
    average: Average | None
    optimizer: torch.optim.Optimizer
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    scaler: torch.amp.GradScaler
    loaders: Loaders
    log: RunLog
    progress: Progress
    lock: IO[str] | None
    pace: Pace


class Step(NamedTuple):
    """What one step did: loss, norm of the gradient before clipping, norm of the update where it was measured."""

    terms: LossTerms
    gradient: Tensor
    update: float | None


def main() -> int:
    """Trains, or goes on where the last run stopped."""
    config = parse(TrainConfig, "Train Auto-MSFNet.")
    run_files(config.plugins)
    keep_memory()
    processes = join(choose_device(config.device))
    try:
        run = processes.together(lambda: set_up(config, processes))
        return train(replace(run, model=callable_model(run)))
    finally:
        processes.leave()


def train(run: Run) -> int:
    """Epoch after epoch, until the last one or a request to stop."""
    stop = StopRequest()
    while run.progress.epoch < run.config.epochs:
        if train_one_epoch(run, stop):
            save(run)
            by = stop.requested or "another process"
            run.processes.say(f"stopped by {by}; the same command goes on at step {run.progress.step}")
            return 130
        finish_epoch(run)
    run.log.close()
    for line in summary(run.config, run.progress, run.pace.total()):
        run.processes.say(line)
    return 0


# ---------------------------------------------------------------------------------------------- set up


def set_up(config: TrainConfig, processes: Processes) -> Run:
    """Builds everything in a fixed order: seeds, network, optimizer, then the state of an earlier run over them."""
    lock = claim(config.out) if processes.first else None
    precision = choose_precision(config.precision, processes.device)
    processes.say(banner(processes.device, precision) + (f" | {processes.world} processes" * (processes.world > 1)))
    seed_everything(config.seed)  # alike in all processes, so that all begin with the same weights
    network, frozen = build(config, processes)
    loaders = build_loaders(
        config.data, config.batch, config.seed, parts=config.accumulate, rank=processes.rank, world=processes.world,
        pin=processes.device.type == "cuda",
    )  # fmt: skip
    pictures = loaders.files
    processes.say(f"{pictures['training']} pictures to train on, {pictures['held_out']} held out")
    run = Run(
        config, processes, network, network, frozen,
        Average(network, config.average) if config.average.decay else None,
        build_optimizer(network, config.optim), precision,
        torch.amp.GradScaler(processes.device.type, enabled=precision == "fp16"),
        loaders, RunLog(None), Progress(), lock, Pace(),
    )  # fmt: skip
    seed_everything(config.seed + processes.rank)  # what a layer draws, such as dropout, differs between processes
    restore(run)
    if not processes.first:
        return run
    replace_text(config.out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
    return replace(run, log=RunLog(config.out, run.progress.step))


def build(config: TrainConfig, processes: Processes) -> tuple[AutoMSFNet, list[nn.Module]]:
    """The network where it computes, and the parts of it that stay as they are."""
    weights = None if config.encoder_weights == "none" else config.encoder_weights
    network: Any = build_network(config.network, weights)
    network = network.to(processes.device, memory_format=torch.channels_last)
    if processes.device.type == "cpu":
        accelerate(network)
    if config.sync_batchnorm:  # before the stem is taken: it puts other modules in the place of its BatchNorm
        network = synchronise_batchnorm(network, processes)
    frozen = stem(network.encoder) if config.freeze_stem else []
    for part in frozen:
        part.requires_grad_(False)
    return network, frozen


def callable_model(run: Run) -> nn.Module:
    """The network as training calls it: compiled if asked for, gradients averaged over the processes."""
    compiled = torch.compile(run.network) if run.config.compile else run.network
    return run.processes.wrap(compiled)  # pyright: ignore[reportArgumentType]


# ----------------------------------------------------------------------------------------- train an epoch


def train_one_epoch(run: Run, stop: StopRequest) -> bool:
    """Trains from the run's position to the end of the epoch; True if a process was asked to stop before."""
    config, progress, batches = run.config, run.progress, run.loaders.batches
    batches.sizes = tuple(config.data.sizes_at(progress.epoch / config.epochs))
    batches.set_position(progress.epoch, progress.batch)
    bar = tqdm(
        loaded(run), f"epoch {progress.epoch + 1}/{config.epochs}", batches.per_epoch, initial=progress.batch,
        unit="batch", disable=None if run.processes.first else True,
    )  # fmt: skip
    run.network.train()
    for part in run.frozen:
        part.eval()  # its BatchNorm keeps ImageNet's statistics
    run.pace.read()  # what came before, such as a validation, is no part of the first reading
    for batch in bar:
        set_rates(run)
        step = train_step(run, batch)
        progress.batch, progress.step = progress.batch + 1, progress.step + 1
        if step.update is not None:
            bar.set_postfix(report(run, step))
        if run.processes.any(bool(stop.requested))[0]:
            return True
        if progress.step % config.save_every == 0:
            save(run)
    return False


def loaded(run: Run) -> Iterator[Batch]:
    """The epoch's batches from the run's position on. If one can't be read, the state before it is saved."""
    try:
        yield from run.processes.in_step(run.loaders.training)
    except (UserError, SystemExit):  # SystemExit: another process could not read its share
        if run.progress.step:
            save(run)
        raise


def set_rates(run: Run) -> None:
    """Sets the learning rates for the next step."""
    config, progress = run.config, run.progress
    factor = rate_factor(config.optim, progress.epoch, progress.batch, run.loaders.batches.per_epoch, config.epochs)
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def train_step(run: Run, batch: Batch) -> Step:
    """One step of the optimizer over this process's share of the pictures."""
    run.optimizer.zero_grad(set_to_none=True)
    terms = backward(run, batch)
    run.scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), run.config.optim.clip or math.inf)
    stop_if_not_finite(run, batch, terms, norm)
    logged = (run.progress.step + 1) % run.config.log_every == 0
    update = UpdateNorm(run.network.parameters()) if logged else None
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average is not None:
        run.average.update(run.network)
    run.pace.count(len(batch.index) * run.processes.world)
    return Step(terms, norm, None if update is None else update())


def backward(run: Run, batch: Batch) -> LossTerms:
    """Gradients of the mean loss, computed in parts and averaged over the processes; returns that loss."""
    parts, progress = run.config.accumulate, run.progress
    steps = run.loaders.batches.per_epoch
    done = (progress.epoch * steps + progress.batch + 1) / (run.config.epochs * steps)
    sums: list[Tensor] = []
    images = batch.image.to(run.processes.device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
    masks = batch.mask.to(run.processes.device, non_blocking=True)  # (B, 1, S, S)
    for number, (image, mask) in enumerate(zip(images.chunk(parts), masks.chunk(parts), strict=True)):
        with run.processes.apart(run.model, alone=number + 1 < parts):
            with autocast(run.processes.device, run.precision):
                logits = run.model(image)
            terms = saliency_loss(logits, mask, run.config.loss, done)
            run.scaler.scale(terms.total / parts).backward()
        sums.append(torch.stack(terms).detach())
    return LossTerms(*torch.stack(sums).mean(0))  # (parts, terms) -> terms


def stop_if_not_finite(run: Run, batch: Batch, terms: LossTerms, norm: Tensor) -> None:
    """Ends the run, in all processes, if a loss is not finite or a gradient that no scaler will catch.

    The batch is saved, with the weights, beside the checkpoint, which stays as it was.

    Raises:
        TrainError: naming the step and the values, and what to do.
    """
    lost = not torch.isfinite(terms.total)
    blown = not run.scaler.is_enabled() and not torch.isfinite(norm)
    some_lost, some_blown = run.processes.any(lost, blown)
    if not (some_lost or some_blown):
        return
    error = None
    if lost or not some_lost:  # a gradient is shared: where a loss is lost, the process that lost it speaks
        error = non_finite(run, batch, terms, norm)
    run.processes.agree(error)


def non_finite(run: Run, batch: Batch, terms: LossTerms, norm: Tensor) -> UserError:
    """Saves the batch and the weights that lost it; what to tell the user."""
    path = run.config.out / "non_finite_batch.pt"
    state = {"image": batch.image, "mask": batch.mask, "index": batch.index, "weights": run.network.state_dict()}
    values = ", ".join(f"{name} {value.item():.4g}" for name, value in terms._asdict().items())
    try:
        save_checkpoint(path, state)
    except UserError as failed:
        return failed
    return TrainError(
        f"the loss is not finite at step {run.progress.step} ({values}, gradient {norm.item():.4g}). The batch and the "
        f"weights that it met are in {path}, the last saved state in {run.config.out / 'last.pt'}. Start anew with "
        f"another --out and a lower optim.lr, optim.clip (5 is usual), or --precision fp32."
    )


def report(run: Run, step: Step) -> dict[str, str]:
    """Logs one step, losses averaged over the processes, and gives what the progress bar shows."""
    losses = torch.stack(step.terms)
    run.processes.mean([losses])
    named = dict(zip(LossTerms._fields, losses.tolist(), strict=True))
    rates = {"encoder" if group["encoder"] else "rest": group["lr"] for group in run.optimizer.param_groups}
    speed = run.pace.read()
    values = {
        "gradient_norm": step.gradient.item(), "update_norm": step.update or 0.0, "images_per_s": round(speed, 2),
        "memory_mib": round(peak_memory(run.processes.device)), "epoch": run.progress.epoch,
    }  # fmt: skip
    groups = {"loss": named, "rate": rates, "train": values}
    flat = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
    run.processes.together(lambda: run.log.scalars(run.progress.step, flat))
    return {"loss": f"{named['total']:.3f}", "images_per_s": f"{speed:.1f}"}


# ------------------------------------------------------------------------------------------ after an epoch


def finish_epoch(run: Run) -> None:
    """Validates, keeps the best weights, moves on to the next epoch and saves."""
    progress = run.progress
    progress.epoch, progress.batch = progress.epoch + 1, 0
    with averaged(run):
        scores = check(run)
        worth = scores.get("wfm", float(progress.epoch))  # nothing to choose by: the last epoch
        if worth > progress.best:
            progress.best, progress.best_epoch, progress.best_scores = worth, progress.epoch, scores
            run.processes.together(lambda: save_best(run))
    save(run)


def averaged(run: Run) -> AbstractContextManager[None]:
    """The network with the averaged weights, if they are kept."""
    return nullcontext() if run.average is None else run.average.applied(run.network)


def check(run: Run) -> dict[str, float]:
    """Scores on the held-out part, logged; none without one."""
    progress, loader = run.progress, run.loaders.validation
    if loader is None:
        return {}
    pictures = cast(SaliencyDataset, loader.dataset)
    run.processes.share_buffers(run.network)
    bar = tqdm(loader, "validate", disable=None if run.processes.first else True)
    device = run.processes.device
    scores = run.processes.together(lambda: validate(run.network, bar, device, run.precision, run.processes))
    run.processes.say(f"epoch {progress.epoch}: {listed(scores)}")
    run.processes.together(lambda: log_validation(run, scores, pictures) if run.processes.first else None)
    return scores


def log_validation(run: Run, scores: dict[str, float], pictures: SaliencyDataset) -> None:
    """Scores, and the maps of the first held-out pictures."""
    step = run.progress.step
    run.log.scalars(step, {f"validation/{name}": value for name, value in scores.items()})
    rows = picture_rows(run.network, pictures, run.config.data.size, run.processes.device, run.precision)
    run.log.pictures(step, "image, mask, P1, P2, P3", rows)


def save_best(run: Run) -> None:
    """Writes best.safetensors."""
    config, progress = run.config, run.progress
    if run.processes.first:
        notes = {
            "epoch": progress.epoch, "step": progress.step, "held_out": progress.best_scores,
            "config": to_plain(config),
        }  # fmt: skip
        save_weights(config.out / "best.safetensors", run.network, config.network, config.data.size, notes)


# ------------------------------------------------------------------------------------------ save and go on


def save(run: Run) -> None:
    """Writes last.pt: all that a run needs to go on, and all that a reader needs to rebuild the network."""
    randoms = run.processes.gather(random_state())  # every process has its own
    state: dict[str, Any] = {
        "format": FORMAT,
        "layout": LAYOUT,
        "network": asdict(run.config.network),
        "genotype": run.network.genotype.to_json(),
        "size": run.config.data.size,
        "config": to_plain(run.config),
        "found": found(run),
        "weights": run.network.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "progress": asdict(run.progress),
        "random": randoms,
    }
    run.processes.together(lambda: save_newest(run.config.out, state) if run.processes.first else None)


def found(run: Run) -> dict[str, Any]:
    """What the config does not say but must be the same as well for a run to go on."""
    return {
        "processes": run.processes.world, "precision": run.precision, "pictures": dict(run.loaders.files),
        "genotype": run.network.genotype.plain(),
    }  # fmt: skip


def restore(run: Run) -> None:
    """Puts the newest whole state of the run's folder, if it has one, over freshly built parts.

    Raises:
        CheckpointError: if it has some and none is whole.
        StateError: if it was made by another version, or with settings that would give another result.
    """
    newest = load_newest(run.config.out, run.processes.say)
    if newest is None:
        return
    state, path = newest
    if state.get("layout") != LAYOUT:
        raise StateError(
            f"{path}: its layout is {state.get('layout', 1)}, this version goes on with layout {LAYOUT} alone. Give "
            f"another --out to start anew; test.py still reads it."
        )
    check_same(state["config"], to_plain(run.config), FREE)
    check_same(state["found"], found(run))
    run.network.load_state_dict(state["weights"])
    if run.average is not None:
        run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.scaler.load_state_dict(state["scaler"])
    set_random_state(state["random"][run.processes.rank])
    for name, value in state["progress"].items():
        setattr(run.progress, name, value)
    run.processes.say(f"going on from {path}: epoch {run.progress.epoch + 1}, step {run.progress.step}")


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
