"""Run by tests/test_train_distributed.py, alone or by torchrun: one step's gradients, a validation, a lost loss.

    two_processes.py OUT [settings of train.py]

Writes OUT/result.pt (gradients and scores) and OUT/said-RANK.txt: what each process says of a loss that only the last
one loses.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

import train
from training.settings import TrainConfig
from training.validation import validate
from utils.config import parse
from utils.distributed import join

out = Path(sys.argv[1])
config = parse(TrainConfig, "", sys.argv[2:])
processes = join(torch.device("cpu"))
run = processes.together(lambda: train.set_up(config, processes))
run = replace(run, model=train.callable_model(run))
run.network.eval()  # BatchNorm by its statistics: then a batch is the sum of its parts
batch = next(iter(run.loaders.training))
terms = train.backward(run, batch)
gradients = {name: parameter.grad.clone() for name, parameter in run.network.named_parameters()}
losses = torch.stack(terms)
processes.mean([losses])
scores = validate(run.network, run.loaders.validation, processes.device, "fp32", processes)
pictures = sorted(index for share in processes.gather(batch.index.tolist()) for index in share)
if processes.first:
    torch.save({"gradients": gradients, "losses": losses, "scores": scores, "pictures": pictures}, out / "result.pt")

if processes.rank == processes.world - 1:
    batch.image.fill_(torch.nan)
try:
    train.train_step(run, batch)
    said = "nothing happened"
except train.TrainError as error:
    said = f"error: {error}"
except SystemExit as left:
    said = f"left with {left.code}"
(out / f"said-{processes.rank}.txt").write_text(said)
processes.leave()
