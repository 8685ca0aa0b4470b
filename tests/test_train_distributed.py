"""train.py by torchrun: two processes compute what one does, stop together and resume to the bit."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from data.image_io import write_png
from data.layouts import find_pairs
from data.synthetic import write_scenes
from tests.programs import ENVIRONMENT, ROOT, Program, Together, wait_for
from tests.soft_maps import write_soft_maps
from tests.test_train import SMALL, assert_same, step_of
from utils.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SETTINGS = [*SMALL, "--data.held_out", "0.2", "--save-every", "1"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, count=15, size=72, seed=0)
    write_soft_maps(root, root / "soft")
    for pair in find_pairs(root)[::2]:  # images of nothing: a term that leaves them out must count them alike
        write_png(pair.mask, torch.zeros(72, 72, dtype=torch.uint8).numpy())
    return root


def end(running):
    text, errors = running.communicate()
    assert running.returncode == 0, (text, errors)
    return text


def one_step(scenes, out, start, parts):
    """What `two_processes.py` finds with a batch of four and soft maps, over all processes and parts."""
    out.mkdir()
    settings = [
        *SETTINGS, "--accumulate", parts, "--batch", 4, "--optim.name", "sgd", "--data.root", scenes, "--out",
        out / "run", "--distillation.maps", scenes / "soft",
    ]  # fmt: skip
    end(start("tests/two_processes.py", out, *settings))
    reports = {
        name: [path.read_text() for path in sorted(out.glob(f"{name}-*.txt"))] for name in ("validation", "loss")
    }
    return {**torch.load(out / "result.pt", weights_only=True), **reports}


def test_parts_and_processes_compute_what_one_batch_does(scenes, tmp_path):
    whole = one_step(scenes, tmp_path / "whole", Program, 1)
    two = one_step(scenes, tmp_path / "two", Together, 2)  # two processes with two parts each, of one image
    assert two["images"] == whole["images"] and len(set(whole["images"])) == 4
    torch.testing.assert_close(two["losses"], whole["losses"])
    assert whole["losses"][-1] > 0, "the term of the soft maps"
    for name, gradient in whole["gradients"].items():
        scale = max(gradient.abs().max().item(), 1e-6)
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)
    for name, value in whole["average"].items():
        torch.testing.assert_close(two["average"][name], value, rtol=1e-3, atol=1e-5, msg=name)
    # Three images over two processes: padding to four would count one twice.
    assert two["scores"] == pytest.approx(whole["scores"], abs=1e-6)
    # Only the second process cannot read an image of the validation split: neither waits for the other.
    assert two["validation"] == ["left with 2", "error: image.jpg: damaged"]
    # Only the loss of the second process is not finite: it raises, the other exits silently.
    first, second = two["loss"]
    assert first == "left with 2"
    assert second.startswith("error: the loss is not finite at step 0") and "optim.lr" in second


def test_two_processes_stop_are_killed_and_resume_to_the_same_state(scenes, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def command(out):
        return ["train.py", *SETTINGS, "--data.root", str(scenes), "--out", str(out)]

    text = end(Together(*command(whole)))
    assert (
        "| 2 processes, BatchNorm over the images of each" in text
        and text.count("12 images to train on, 3 in the validation split") == 1
    ), "printed once"

    # The launcher that users have hands the signal on; the others start the processes as it does.
    running = subprocess.Popen(
        [*TORCHRUN, *command(broken)], cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for_step(broken, 1, running)
    running.send_signal(signal.SIGTERM)
    text, _ = running.communicate(timeout=300)
    assert "stopped by SIGTERM; the same command resumes at step" in text and running.returncode != 0
    assert 0 < load_checkpoint(broken / "last.pt")["progress"]["step"] < 6

    running = Together(*command(broken), signal_at=(signal.SIGKILL, 4))
    running.communicate()
    assert running.returncode == -signal.SIGKILL and step_of(broken) == 4
    assert "resuming from" in end(Together(*command(broken)))
    assert_same(load_checkpoint(broken / "last.pt"), load_checkpoint(whole / "last.pt"))


def wait_for_step(out, step, running):
    wait_for(lambda: step_of(out) >= step, running)
    assert running.poll() is None, "ended before it could be stopped"


def test_another_number_of_processes_is_refused(scenes, tmp_path):
    out = tmp_path / "run"
    arguments = ["train.py", *SETTINGS, "--epochs", "1", "--data.root", scenes, "--out", out]
    end(Program(*arguments))
    running = Together(*arguments)
    text, _ = running.communicate()
    assert running.returncode != 0
    assert text.count("processes: the run in --out was started with 1, now it is 2") == 1
