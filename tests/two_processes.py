"""Run by tests/test_train_distributed.py, in one process or by torchrun: gradients, a validation, a lost loss.

    two_processes.py OUT [settings of train.py]

Writes OUT/result.pt (gradients, the average of the weights after a step, and scores). OUT/validation-RANK.txt holds
what each process reports of a validation in which only the last one cannot read an image. OUT/loss-RANK.txt holds the
same of a loss that is not finite only in the last one.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

import train
from data.errors import DataError
from settings.parser import parse
from training.processes import join
from training.run import set_up
from training.settings import TrainConfig
from training.step import backward
from training.validation import validate
from utils.errors import UserError

out = Path(sys.argv[1])
config = parse(TrainConfig, "", sys.argv[2:])
processes = join(torch.device("cpu"))
last = processes.rank == processes.world - 1
run = set_up(config, processes)
run.network.eval()  # BatchNorm by its statistics: then a batch is the sum of its parts
batch = next(iter(run.loaders.training))
terms = backward(run, batch)
gradients = {name: parameter.grad.clone() for name, parameter in run.network.named_parameters()}
losses = torch.stack(terms)
processes.average([losses])
run.optimizer.step()
run.average.update(run.network)
scores = validate(run.network, run.loaders.validation, processes.device, "fp32", processes)
images = sorted(index for share in processes.gather(batch.index.tolist()) for index in share)
if processes.first:
    torch.save(
        {"gradients": gradients, "losses": losses, "scores": scores, "average": run.average.weights, "images": images},
        out / "result.pt",
    )


def report(name: str, work: Callable[[], object]) -> None:
    try:
        work()
        text = "nothing happened"
    except UserError as error:
        text = f"error: {error}"
    except SystemExit as exit:
        text = f"left with {exit.code}"
    (out / f"{name}-{processes.rank}.txt").write_text(text)


def unreadable():
    """The validation split, whose first image the last process cannot read."""
    if last:
        raise DataError("image.jpg: damaged")
    yield from run.loaders.validation


report("validation", lambda: validate(run.network, unreadable(), processes.device, "fp32", processes))
if last:
    batch.image.fill_(torch.nan)
report("loss", lambda: train.train_step(run, batch))
processes.leave()
