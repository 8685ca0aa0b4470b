"""One bilevel step of a search: a step of the alphas, then one of the weights.

Source: DARTS (arXiv 1806.09055), algorithm 1. BatchNorm sees the images of one process: with several processes the
gradients are the means of those of their shares, each normalised by its own statistics. With `sync_batchnorm` it sees
those of all, and the step is that of one process with the whole batch.
"""

import math
import time
from collections.abc import Iterator
from itertools import islice, repeat

from torch import Tensor, nn

from data.datasets import Batch
from nas.search_state import Search
from nas.settings import SearchError
from nas.strategies.darts import spend, warmup_path
from net.architect import only
from net.settings import alphas_rest


def rests(search: Search) -> bool:
    """Whether the alphas rest in the present epoch."""
    return alphas_rest(search.config.architect, search.progress.epoch, search.config.epochs)


def batches(search: Search) -> Iterator[tuple[Batch, Batch | None]]:
    """What remains of an epoch: a batch for the weights, and one for the alphas unless they rest."""
    progress, halves = search.progress, search.halves
    halves.weight_batches.set_position(progress.epoch, progress.batch)
    judged = repeat(None) if rests(search) else halves.alphas_from(progress.step)
    return islice(zip(iter(halves.weights), judged, strict=False), halves.steps - progress.batch)


def bilevel_step(search: Search, training: Batch, validation: Batch | None) -> dict[str, float]:
    """One step of the alphas, unless they rest, then one of the weights. Communicates.

    Returns:
        What is logged of it where a read costs nothing; on a GPU nothing, until `read_steps`.

    Raises:
        SearchError: if a loss or a norm is not finite and was read.
    """
    begin = time.perf_counter()
    training, measured = search.to_device(training), dict[str, Tensor]()
    with search.network.sharing(search.config.sync_batchnorm):
        if validation is not None:
            moved = search.architect.step(training, search.to_device(validation))
            measured = {"loss/alphas": moved.loss, "alphas/cost": moved.cost, "alphas/norm": moved.norm}
        measured["loss/weights"], measured["weights/norm"] = weight_step(search, training)
    search.readings.add(search.progress.step, measured)
    values = read_steps(search) if search.readings.immediate else {}
    spend(search.account, search.config, search.total_macs, validation is not None, time.perf_counter() - begin)
    return values


def read_steps(search: Search) -> dict[str, float]:
    """Reads the steps that were not read yet, adds up their losses, and returns the values of the last. Communicates.

    Raises:
        SearchError: naming the first step at which a loss or a norm is not finite.
    """
    rows, _ = search.readings.read()
    wrong = [(row.step, name) for row in rows for name in row.not_finite()]
    error = None
    if wrong:
        step, name = wrong[0]
        error = SearchError(
            f"{name} is not finite at step {step}; the last checkpoint is in {search.config.out}. Start anew with "
            f"another --out and a lower optim.lr or architect.lr, with optim.clip, or --precision fp32."
        )
    search.processes.agree(error)
    for row in rows:
        search.progress.alpha_loss += row.values.get("loss/alphas", 0.0)
        search.progress.weight_loss += row.values["loss/weights"]
    return rows[-1].values if rows else {}


def weight_step(search: Search, batch: Batch) -> tuple[Tensor, Tensor]:
    """One step of the weights; returns the loss and the gradient's norm before clipping."""
    weights = search.network.weights()
    moving = [weight for weight in weights if weight.requires_grad]
    with only(search.network, moving), warmup_path(search):
        loss = search.loss(batch, search.trained)
        search.optimizer.zero_grad(set_to_none=True)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(weights, search.config.optim.clip or math.inf)
    search.optimizer.step()
    return loss.detach(), norm
