"""Small trainings in the process of a test."""

import torch

from data.synthetic import write_scenes
from settings.parser import parse
from tests.programs import ROOT
from training.processes import Processes
from training.run import set_up
from training.settings import TrainConfig

SMALL = (
    "--network.encoder", "test_efficientnet", "--network.channels", "16", "--encoder-weights", "none", "--data.size",
    "64", "--data.workers", "0", "--batch", "4", "--epochs", "1", "--device", "cpu", "--precision", "fp32",
    "--network.genotype", str(ROOT / "tests" / "few_weights.json"),
)  # fmt: skip


def set_up_run(folder, *more, data="scenes"):
    """A run of train.py before its first step; it writes to `folder / "run"`."""
    if not (folder / data).exists():
        write_scenes(folder / data, count=8, size=72, seed=0)
    words = ["--data.root", str(folder / data), "--out", str(folder / "run"), *SMALL, *map(str, more)]
    return set_up(parse(TrainConfig, "", words), Processes(0, 1, torch.device("cpu")))
