"""Values are read late on a GPU: nothing that followed a non-finite one is kept."""

import math

import pytest
import torch
from torch import nn

import train
from data.synthetic import write_scenes
from settings.parser import parse
from tests.test_train import SMALL
from training import step as steps
from training.optim import build_optimizer
from training.processes import Processes
from training.readings import Readings
from training.run import set_up
from training.settings import OptimConfig, TrainConfig, TrainError
from utils.checkpoint import load_checkpoint

CPU = torch.device("cpu")


def test_one_read_gives_all_steps_in_order():
    readings = Readings(CPU)
    readings.add(3, {"loss": torch.tensor(1.5), "norm": torch.tensor(2.0)})
    readings.add(4, {"loss": torch.tensor(math.nan)})
    rows, further = readings.read(torch.tensor([7.0, 8.0]))
    assert [row.step for row in rows] == [3, 4] and rows[0].values == {"loss": 1.5, "norm": 2.0}
    assert [row.not_finite() for row in rows] == [[], ["loss"]] and further == [7.0, 8.0]
    assert readings.read() == ([], [])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_held_weights_move_no_more(name):
    """From the non-finite step on, whatever the later steps compute."""
    torch.manual_seed(0)
    network, readings = nn.Linear(3, 2), Readings(CPU)
    optimizer = build_optimizer(network, OptimConfig(name=name))
    seen = []
    for loss in (1.0, math.nan, 1.0):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, loss)
        readings.hold(optimizer, torch.tensor([loss, 1.0]))
        optimizer.step()
        seen.append(network.weight.detach().clone())
    assert torch.isfinite(seen[0]).all() and torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])


def test_a_late_error_names_its_step_and_keeps_the_state_before(tmp_path, monkeypatch):
    """As on a GPU: nothing is read before the end of the epoch. The first step of the second epoch fails."""
    write_scenes(tmp_path / "scenes", count=12, size=72, seed=0)
    words = ["--data.root", tmp_path / "scenes", "--out", tmp_path / "run", "--data.workers", "0", "--log-every", "99"]
    run = set_up(parse(TrainConfig, "", [*SMALL, *map(str, words)]), Processes(0, 1, CPU))
    run.readings.immediate = False
    first, real = run.loaders.batches.per_epoch, train.train_step
    assert first >= 2
    seen = {}

    def train_step(run, batch):
        if run.progress.step == first:
            seen.update(batch=batch, weights={key: value.clone() for key, value in run.network.state_dict().items()})
        return real(run, batch)

    def loss(*arguments):
        terms = saliency_loss(*arguments)
        return terms._replace(total=terms.total * (math.nan if run.progress.step == first else 1))

    saliency_loss = steps.saliency_loss
    monkeypatch.setattr(steps, "saliency_loss", loss)
    monkeypatch.setattr(train, "train_step", train_step)
    with pytest.raises(TrainError, match=f"not finite at step {first} "):
        train.train(run)
    kept, shown = (load_checkpoint(tmp_path / "run" / name) for name in ("last.pt", "non_finite_batch.pt"))
    assert kept["progress"]["step"] == first and run.progress.step == 2 * first
    assert torch.equal(shown["image"], seen["batch"].image) and torch.equal(shown["index"], seen["batch"].index)
    for name, _ in run.network.named_parameters():
        assert torch.equal(shown["weights"][name], seen["weights"][name]), name
        assert torch.equal(shown["weights"][name], kept["weights"][name]), name
