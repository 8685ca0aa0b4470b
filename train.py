"""Trains Auto-MSFNet on DUTS-TR or on any folder of images and masks.

    python train.py --config configs/lite.yaml --data.root DUTS-TR
    python train.py --data.root MY-DATA --network.encoder resnet50 --epochs 20
    torchrun --nproc-per-node 4 train.py --config configs/resnet50.yaml --data.root DUTS-TR

A run that was stopped resumes with the same command. It writes to `--out`: last.pt and previous.pt (checkpoints),
best.safetensors (the weights to test), config.json, log.jsonl, tensorboard/.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, cast

from settings.parser import parse
from training.settings import TrainConfig
from utils.errors import exit_on_user_error

if TYPE_CHECKING:  # imported where they are used, after the command line is parsed: `--help` needs no PyTorch
    from data.datasets import Batch, SaliencyDataset
    from training.run import Run
    from training.step import Step


def main() -> int:
    """Trains, or resumes where the last run stopped."""
    config = parse(TrainConfig, "Train Auto-MSFNet.")

    from inference.memory import keep_memory
    from net.losses import check_terms
    from settings.plugins import run_files
    from training.out_of_memory import reported
    from training.processes import join
    from training.run import set_up
    from utils.device import choose_device

    run_files(config.plugins)
    check_terms(config.loss)
    keep_memory()
    processes = join(choose_device(config.device))
    try:
        with reported(processes.device, f"Lower batch ({config.batch}) or data.size, or raise accumulate."):
            return train(set_up(config, processes))
    finally:
        processes.leave()


def train(run: Run) -> int:
    """Epoch after epoch, until the last one or a request to stop."""
    from training.step import check
    from training.summary import summary

    run.session.check = lambda: check(run)
    while run.progress.epoch < run.config.epochs:
        if train_epoch(run):
            return 130
        run.session.save()  # before validation, which may fail: an epoch's steps are not lost
        finish_epoch(run)
    run.log.close()
    for line in summary(run.config, run.progress, run.throughput.total()):
        run.processes.print_once(line)
    return 0


def train_epoch(run: Run) -> bool:
    """Trains from the run's position to the end of the epoch; True if a process was asked to stop before."""
    from tqdm import tqdm

    from training.optim import set_learning_rates
    from training.step import report

    config, progress, batches = run.config, run.progress, run.loaders.batches
    batches.sizes = tuple(config.data.sizes_at(progress.epoch / config.epochs))
    batches.set_position(progress.epoch, progress.batch)
    bar = tqdm(
        run.session.lockstep(run.loaders.training), f"epoch {progress.epoch + 1}/{config.epochs}", batches.per_epoch,
        initial=progress.batch, unit="batch", disable=None if run.processes.first else True,
    )  # fmt: skip
    run.network.train()
    for part in run.frozen:
        part.eval()  # its BatchNorm keeps ImageNet's statistics
    run.throughput.read()  # the first reading shall not contain the validation before it
    for batch in bar:
        set_learning_rates(run.optimizer, config.optim, progress, batches.per_epoch, config.epochs)
        step = train_step(run, batch)
        progress.batch, progress.step = progress.batch + 1, progress.step + 1
        if step.update is not None:
            bar.set_postfix(report(run, step))
        if run.session.after_step():
            return True
    return False


def train_step(run: Run, batch: Batch) -> Step:
    """One step of the optimizer over this process's share of the batch."""
    from torch.nn.utils import clip_grad_norm_

    from training.step import Step, backward, note, refuse_non_finite
    from training.throughput import UpdateNorm

    run.optimizer.zero_grad(set_to_none=True)
    terms = backward(run, batch)
    run.scaler.unscale_(run.optimizer)
    norm = clip_grad_norm_(run.network.parameters(), run.config.optim.clip or math.inf)
    note(run, terms, norm)
    if run.readings.immediate:
        refuse_non_finite(run, run.readings.read()[0], batch)
    logged = (run.progress.step + 1) % run.config.log_every == 0
    update = UpdateNorm(run.network.parameters()) if logged else None
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average is not None:
        run.average.update(run.network)
    run.throughput.count(len(batch.index) * run.processes.world)
    return Step(terms, norm, None if update is None else update())


def finish_epoch(run: Run) -> None:
    """Moves on to the next epoch, validates where that is due, and saves."""
    progress = run.progress
    progress.epoch, progress.batch = progress.epoch + 1, 0
    if progress.epoch % run.config.validate_every == 0 or progress.epoch == run.config.epochs:
        with run.averaged():
            keep_best(run)
    run.session.save()


def keep_best(run: Run) -> None:
    """Validates and keeps the weights if they are the best so far."""
    from training.run import BEST

    progress = run.progress
    scores = validate_epoch(run)
    worth = scores.get("wfm", float(progress.epoch))  # without a validation split the last epoch is kept
    if worth > progress.best:
        progress.best, progress.best_epoch, progress.best_scores = worth, progress.epoch, scores
        with run.processes.agreeing():
            if run.processes.first:
                run.save_best(run.config.out / BEST)


def validate_epoch(run: Run) -> dict[str, float]:
    """Scores on the validation split, logged with example maps; none without a split."""
    from tqdm import tqdm

    from training.summary import listed
    from training.validation import example_rows, validate

    loader, processes, step = run.loaders.validation, run.processes, run.progress.step
    if loader is None:
        return {}
    processes.broadcast_buffers(run.network)
    bar = tqdm(loader, "validate", disable=None if processes.first else True)
    scores = validate(run.network, bar, processes.device, run.precision, processes)
    processes.print_once(f"epoch {run.progress.epoch}: {listed(scores)}")
    with processes.agreeing():
        if processes.first:
            run.log.scalars(step, {f"validation/{name}": value for name, value in scores.items()})
            images = cast("SaliencyDataset", loader.dataset)
            rows = example_rows(run.network, images, run.config.data.size, processes.device, run.precision)
            run.log.images(step, "image, mask, P1, P2, P3", rows)
    return scores


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
