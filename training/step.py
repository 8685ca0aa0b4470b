"""One training step in its parts: gradients, the check that they are finite, and what is logged of it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from data.datasets import Batch, collate
from net.losses import LossTerms, distilled, saliency_loss
from training.readings import Row
from training.run import Run
from training.settings import TrainError
from training.throughput import peak_memory
from utils.checkpoint import save_checkpoint
from utils.device import autocast
from utils.errors import UserError

GRADIENT = "gradient"  # its norm before clipping, beside the fields of LossTerms


class Step(NamedTuple):
    """Result of a step: loss, norm of the gradient before clipping, norm of the update where it was measured."""

    terms: LossTerms
    gradient: Tensor
    update: Tensor | None


def backward(run: Run, batch: Batch) -> LossTerms:
    """Gradients of the mean loss, computed in parts and averaged over the processes; returns that loss."""
    parts = run.config.accumulate
    done = run.progress.share(run.loaders.batches.per_epoch, run.config.epochs)
    sums: list[Tensor] = []
    images = batch.image.to(run.processes.device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
    masks = batch.mask.to(run.processes.device, non_blocking=True)  # (B, 1, S, S)
    soft_maps: Sequence[Tensor | None] = [None] * parts
    if batch.soft_map is not None:
        soft_maps = batch.soft_map.to(run.processes.device, non_blocking=True).chunk(parts)  # (B, 1, S, S)
    shares = zip(images.chunk(parts), masks.chunk(parts), soft_maps, strict=True)
    for number, (image, mask, soft_map) in enumerate(shares):
        with run.processes.accumulating(run.model, more=number + 1 < parts):
            with autocast(run.processes.device, run.precision):
                logits = run.model(image)
            terms = saliency_loss(logits, mask, run.config.loss, done)
            if soft_map is not None:
                terms = distilled(terms, logits, soft_map, run.config.loss, run.config.distillation.share)
            run.scaler.scale(terms.total / parts).backward()
        sums.append(torch.stack(terms).detach())
    return LossTerms(*torch.stack(sums).mean(0))  # (parts, terms) -> terms


def note(run: Run, terms: LossTerms, norm: Tensor) -> None:
    """Notes what `refuse_non_finite` judges later; until then a GPU holds the weights if a value is not finite."""
    run.readings.add(run.progress.step, {**terms._asdict(), GRADIENT: norm})
    if not run.readings.immediate and not run.scaler.is_enabled():
        run.readings.hold(run.optimizer, torch.stack([terms.total.detach(), norm]))


def check(run: Run) -> None:
    """Reads the steps that were not read yet, see `refuse_non_finite`."""
    refuse_non_finite(run, run.readings.read()[0])


def refuse_non_finite(run: Run, rows: Sequence[Row], batch: Batch | None = None) -> None:
    """Ends the run, in all processes, if a loss or, without a scaler, a gradient is not finite. Communicates.

    The batch is saved, with the weights, beside the checkpoint, which stays as it was.

    Args:
        run: whose steps they are.
        rows: of the steps since the last call.
        batch: of the last of them, if it is at hand.

    Raises:
        TrainError: naming the first such step and its values, and what to do.
    """
    lost = [row for row in rows if not math.isfinite(row.values["total"])]
    blown = [row for row in rows if not (math.isfinite(row.values[GRADIENT]) or run.scaler.is_enabled())]
    some_lost, some_blown = run.processes.any(bool(lost), bool(blown))
    if not (some_lost or some_blown):
        return
    error = None
    if lost or not some_lost:  # gradients are shared: the process whose loss is not finite reports it
        row = min([*lost, *blown], key=lambda one: one.step)
        error = non_finite(run, row, batch or batch_of(run, row.step))
    run.processes.agree(error)


def batch_of(run: Run, step: int) -> Batch:
    """The batch of an earlier step of the present epoch, read from the dataset again."""
    batches, progress = run.loaders.batches, run.progress
    batches.set_position(progress.epoch, progress.batch - (progress.step - step))
    return collate([run.loaders.training.dataset[key] for key in next(iter(batches))])


def non_finite(run: Run, row: Row, batch: Batch) -> UserError:
    """Saves the batch and the weights at which the loss is not finite; returns the error to raise."""
    path = run.config.out / "non_finite_batch.pt"
    state = {"image": batch.image, "mask": batch.mask, "index": batch.index, "weights": run.network.state_dict()}
    if batch.soft_map is not None:
        state["soft_map"] = batch.soft_map
    *losses, gradient = row.values.values()
    named = named_losses(run, losses)
    values = ", ".join(f"{name} {value:.3g}" for name, value in named.items())
    try:
        save_checkpoint(path, state)
    except UserError as failed:
        return failed
    return TrainError(
        f"the loss is not finite at step {row.step} ({values}, gradient {gradient:.3g}); batch and weights "
        f"are in {path}. Start anew with another --out and a lower optim.lr, optim.clip (5 is usual), or "
        f"--precision fp32."
    )


def named_losses(run: Run, values: Sequence[float]) -> dict[str, float]:
    """The values of `LossTerms` by name; of the optional terms only those that the run uses."""
    used = {"registered": bool(run.config.loss.terms), "distillation": run.config.distillation.maps is not None}
    return {name: value for name, value in zip(LossTerms._fields, values, strict=True) if used.get(name, True)}


def report(run: Run, step: Step) -> dict[str, str]:
    """Logs one step, losses averaged over the processes; returns what the progress bar shows. Communicates.

    Raises:
        TrainError: if a step since the last report was not finite.
    """
    losses = torch.stack(step.terms)
    run.processes.average([losses])
    sizes = torch.stack([step.gradient, step.gradient.new_zeros(()) if step.update is None else step.update])
    rows, (*means, gradient, update) = run.readings.read(torch.cat([losses, sizes]))  # the only wait of an interval
    refuse_non_finite(run, rows)
    named = named_losses(run, means)
    rates = {"encoder" if group["encoder"] else "rest": group["lr"] for group in run.optimizer.param_groups}
    speed = run.throughput.read()
    values = {
        "gradient_norm": gradient, "update_norm": update, "images_per_s": round(speed, 2),
        "memory_mib": round(peak_memory(run.processes.device)), "epoch": run.progress.epoch,
    }  # fmt: skip
    groups = {"loss": named, "rate": rates, "train": values}
    flat = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
    with run.processes.agreeing():
        run.log.scalars(run.progress.step, flat)
    return {"loss": f"{named['total']:.3f}", "images_per_s": f"{speed:.1f}"}
