"""One training step in its parts: gradients, the check that they are finite, and what is logged of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from data.datasets import Batch
from net.losses import LossTerms, saliency_loss
from training.run import Run
from training.settings import TrainError
from training.throughput import peak_memory
from utils.checkpoint import save_checkpoint
from utils.device import autocast
from utils.errors import UserError


class Step(NamedTuple):
    """Result of a step: loss, norm of the gradient before clipping, norm of the update where it was measured."""

    terms: LossTerms
    gradient: Tensor
    update: float | None


def backward(run: Run, batch: Batch) -> LossTerms:
    """Gradients of the mean loss, computed in parts and averaged over the processes; returns that loss."""
    parts = run.config.accumulate
    done = run.progress.share(run.loaders.batches.per_epoch, run.config.epochs)
    sums: list[Tensor] = []
    images = batch.image.to(run.processes.device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
    masks = batch.mask.to(run.processes.device, non_blocking=True)  # (B, 1, S, S)
    for number, (image, mask) in enumerate(zip(images.chunk(parts), masks.chunk(parts), strict=True)):
        with run.processes.accumulating(run.model, more=number + 1 < parts):
            with autocast(run.processes.device, run.precision):
                logits = run.model(image)
            terms = saliency_loss(logits, mask, run.config.loss, done)
            run.scaler.scale(terms.total / parts).backward()
        sums.append(torch.stack(terms).detach())
    return LossTerms(*torch.stack(sums).mean(0))  # (parts, terms) -> terms


def refuse_non_finite(run: Run, batch: Batch, terms: LossTerms, norm: Tensor) -> None:
    """Ends the run, in all processes, if a loss or, without a scaler, a gradient is not finite. Communicates.

    The batch is saved, with the weights, beside the checkpoint, which stays as it was.

    Raises:
        TrainError: naming the step and the values, and what to do.
    """
    finite, moderate = torch.stack([terms.total, norm]).isfinite().tolist()  # one read: the host waits for a GPU once
    lost, blown = not finite, not (moderate or run.scaler.is_enabled())
    some_lost, some_blown = run.processes.any(lost, blown)
    if not (some_lost or some_blown):
        return
    error = None
    if lost or not some_lost:  # gradients are shared: the process whose loss is not finite reports it
        error = non_finite(run, batch, terms, norm)
    run.processes.agree(error)


def non_finite(run: Run, batch: Batch, terms: LossTerms, norm: Tensor) -> UserError:
    """Saves the batch and the weights at which the loss is not finite; returns the error to raise."""
    path = run.config.out / "non_finite_batch.pt"
    state = {"image": batch.image, "mask": batch.mask, "index": batch.index, "weights": run.network.state_dict()}
    named = named_losses(run, torch.stack(terms).tolist())
    values = ", ".join(f"{name} {value:.3g}" for name, value in named.items())
    try:
        save_checkpoint(path, state)
    except UserError as failed:
        return failed
    return TrainError(
        f"the loss is not finite at step {run.progress.step} ({values}, gradient {norm.item():.3g}); batch and weights "
        f"are in {path}. Start anew with another --out and a lower optim.lr, optim.clip (5 is usual), or "
        f"--precision fp32."
    )


def named_losses(run: Run, values: Sequence[float]) -> dict[str, float]:
    """The values of `LossTerms` by name; `registered` only where the run uses terms of the user."""
    named = dict(zip(LossTerms._fields, values, strict=True))
    return named if run.config.loss.terms else {name: value for name, value in named.items() if name != "registered"}


def report(run: Run, step: Step) -> dict[str, str]:
    """Logs one step, losses averaged over the processes; returns what the progress bar shows. Communicates."""
    losses = torch.stack(step.terms)
    run.processes.average([losses])
    named = named_losses(run, losses.tolist())
    rates = {"encoder" if group["encoder"] else "rest": group["lr"] for group in run.optimizer.param_groups}
    speed = run.throughput.read()
    values = {
        "gradient_norm": step.gradient.item(), "update_norm": step.update or 0.0, "images_per_s": round(speed, 2),
        "memory_mib": round(peak_memory(run.processes.device)), "epoch": run.progress.epoch,
    }  # fmt: skip
    groups = {"loss": named, "rate": rates, "train": values}
    flat = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
    with run.processes.agreeing():
        run.log.scalars(run.progress.step, flat)
    return {"loss": f"{named['total']:.3f}", "images_per_s": f"{speed:.1f}"}
