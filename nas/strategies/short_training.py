"""One genotype, trained briefly from its own seed and scored: a function of only genotype, seed and settings."""

from collections.abc import Sequence

import torch

from data.datasets import Batch
from nas.strategies.account import PASSES
from nas.strategies.task import Recipe, Task, UnitStoppedError, p1_iou
from net.cpu_kernels import accelerate
from training.random_state import seed_everything


def train_and_score(task: Task, names: Sequence[str], images: Batch) -> float:
    """P1 IoU of a genotype after a short training; every genotype of a search has the same seed and the same batches.

    Args:
        task: of the search.
        names: operations of the genotype.
        images: to score on, from `Task.images`.

    Raises:
        UnitStoppedError: the search was asked to stop.
    """
    settings, account = task.config.training, task.account
    recipe = Recipe(settings.steps, settings.lr, settings.encoder_lr, settings.weight_decay)
    seed_everything(task.config.seed)
    network = task.network(names).train()
    if task.device.type == "cpu":
        accelerate(network)
    optimizer = recipe.optimizer(network)
    batches = task.halves.weights_from(0)
    for step in range(recipe.steps):
        if task.stopped():
            raise UnitStoppedError
        batch = task.to_device(next(batches))
        recipe.step(optimizer, network, task.loss(network, batch), step)
    network.eval()
    score = p1_iou(task, network, images)
    account.trainings += 1
    account.see(recipe.steps * task.config.batch, task.macs(names), PASSES)
    account.see(len(images.index), task.macs(names))
    del network, optimizer
    if task.device.type == "cuda":
        torch.cuda.empty_cache()
    return score
