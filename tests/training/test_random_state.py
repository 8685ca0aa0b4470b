"""Random states come back, each device's own only."""

import random

import numpy as np
import torch

from training.checkpoints import load_newest, save_newest
from training.random_state import random_state, seed_everything, set_random_state

CPU = torch.device("cpu")


def test_random_states_come_back(tmp_path):
    seed_everything(3)
    save_newest(tmp_path, {"random": random_state(CPU)})
    drawn = [random.random(), np.random.rand(), torch.rand(1).item()]
    seed_everything(4)
    set_random_state(load_newest(tmp_path)[0]["random"], CPU)
    assert [random.random(), np.random.rand(), torch.rand(1).item()] == drawn


def test_a_gpu_reads_and_restores_its_own_state_only(monkeypatch):
    """As on a machine with GPUs: an earlier version saved the states of all, of which fewer may be visible now."""
    states, restored = {0: torch.tensor([0]), 1: torch.tensor([1])}, []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device.index])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((device.index, state)))
    saved = random_state(torch.device("cuda", 1))
    assert saved["cuda"] == [states[1]]
    set_random_state(saved, torch.device("cuda", 0))  # the process has another index since
    set_random_state({**saved, "cuda": [*states.values()]}, torch.device("cuda", 0))
    set_random_state(saved, CPU)
    assert restored == [(0, states[1]), (0, states[0])]
