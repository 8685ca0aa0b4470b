"""train.py end to end on generated scenes: it learns, goes on after a stop, and refuses bad input with one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data.synthetic import write_scenes
from utils.checkpoint import load_checkpoint, load_network

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "--network.encoder", "mobilenetv3_small_050", "--network.channels", "16", "--encoder_weights", "none",
    "--data.size", "64", "--data.workers", "1", "--batch", "4", "--epochs", "2", "--optim.name", "adamw",
    "--optim.lr", "0.002", "--optim.encoder_lr", "0.002", "--device", "cpu", "--precision", "fp32",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, count=24, size=72, seed=0)
    return root


def command(scenes, out, *more):
    return [sys.executable, "train.py", "--data.root", str(scenes), "--out", str(out), *SMALL, *more]


def train(scenes, out, *more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(scenes, out, *more), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    """One run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = train(scenes, out, "--save_every", "1")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_run_writes_what_it_promises(finished):
    out, text = finished
    assert text.startswith("cpu (") and "23 pictures to train on, 1 held out" in text
    assert f"python test.py --weights {out / 'best.safetensors'}" in text
    assert load_network(out / "best.safetensors").size == 64
    assert load_network(out / "last.pt").config.channels == 16
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line for line in lines if "validation/wfm" in line]
    assert json.loads((out / "config.json").read_text())["optim"]["name"] == "adamw"
    assert list((out / "tensorboard").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_weights(scenes, finished, tmp_path, number):
    out = tmp_path / "stopped"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command(scenes, out, "--save_every", "1"), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (out / "last.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert 0 < load_checkpoint(out / "last.pt")["progress"]["step"] < 10
    assert train(scenes, out, "--save_every", "1").returncode == 0
    ours, theirs = load_checkpoint(out / "last.pt"), load_checkpoint(finished[0] / "last.pt")
    assert ours["progress"] == theirs["progress"]
    assert_same(ours["weights"], theirs["weights"])
    assert_same(ours["optimizer"]["state"], theirs["optimizer"]["state"])


def assert_same(ours, theirs):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_same(value, theirs[key])
    else:
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_it_learns(scenes, tmp_path):
    done = train(scenes, tmp_path / "run", "--epochs", "25", "--data.augment.crop", "0", "--data.held_out", "0")
    assert done.returncode == 0, done.stderr
    network = load_network(tmp_path / "run" / "best.safetensors").network
    from data.datasets import read_pair
    from data.layouts import find_pairs
    from data.transforms import EvalTransform

    errors, chance = [], []
    for pair in find_pairs(scenes):
        image, mask = EvalTransform()(*read_pair(pair), 64)
        with torch.inference_mode():
            errors.append((torch.sigmoid(network(image[None]).p1[0]) - mask).abs().mean().item())
        chance.append(min(mask.mean().item(), 1 - mask.mean().item()))
    assert np.mean(errors) < 0.8 * np.mean(chance), "worse than a constant map"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--optim.momentumm", "0.9"], "momentumm"),
        (["--batch", "many"], "batch"),
        (["--network.genotype", "nobody"], "genotype 'nobody' is neither a published name"),
        (["--network.encoder", "resnet5"], "encoder 'resnet5' is neither"),
        (["--encoder_weights", "gone.pt"], "gone.pt: no such weights file"),
        (["--data.root", "gone"], "gone"),
        (["--batch", "99"], "99"),
        (["--loss.theta0", "4"], "loss.theta0: 4 pixels"),
    ],
)
def test_bad_settings_are_one_line(scenes, tmp_path, more, message):
    done = train(scenes, tmp_path / "run", *more)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_not_replaced_silently(scenes, tmp_path):
    done = train(scenes, tmp_path / "run", "--device", "cuda")
    assert done.returncode == 2 and "finds no cuda device here" in done.stderr


def test_another_config_in_the_same_folder_is_refused(scenes, finished):
    before = (finished[0] / "last.pt").read_bytes()
    done = train(scenes, finished[0], "--seed", "7")
    assert done.returncode == 2
    assert "seed: the run in --out was started with 0, now it is 7" in done.stderr
    assert (finished[0] / "last.pt").read_bytes() == before


def test_a_broken_picture_in_the_middle_of_an_epoch_is_named(tmp_path):
    write_scenes(tmp_path / "data", count=12, size=72, seed=1)
    victim = next(path for path in sorted((tmp_path / "data").rglob("*")) if path.suffix in {".jpg", ".png"})
    victim.write_bytes(victim.read_bytes()[:200])
    done = train(tmp_path / "data", tmp_path / "run")
    assert done.returncode == 2
    assert victim.name in done.stderr and "Traceback" not in done.stderr


def test_a_loss_that_is_not_finite_stops_the_run(scenes, tmp_path):
    done = train(scenes, tmp_path / "run", "--optim.lr", "1e30", "--optim.encoder_lr", "1e30", "--optim.warmup", "0")
    assert done.returncode == 2
    assert "the loss is not finite at step" in done.stderr and "optim.lr" in done.stderr
    assert (tmp_path / "run" / "non_finite_batch.pt").is_file()
