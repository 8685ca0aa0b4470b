"""search.py end to end on generated scenes: what it writes, resuming after a stop, many processes, bad input."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from data.synthetic import write_scenes
from nas.halves import build_halves
from nas.search_state import set_up
from nas.settings import SearchConfig
from net.genotype import load
from search import main as search_main
from settings.parser import parse
from tests.programs import ENVIRONMENT, ROOT, Done, Program, Together
from training.processes import Processes
from utils.checkpoint import load_checkpoint
from utils.errors import exit_on_user_error

pytestmark = pytest.mark.slow

SMALL = [
    "--config", "configs/search_smoke.yaml", "--device", "cpu", "--precision", "fp32", "--data.size", "48",
    "--space.operations", '["none", "skip_connect", "conv_3x3", "SpatialAttention"]', "--epochs", "2",
    "--architect.warmup", "0.5", "--batch", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), count=16, size=56, seed=0)


def command(scenes, out, *more):
    return ["search.py", *SMALL, "--data.root", str(scenes), "--out", str(out), *more]


def search(scenes, out, *more):
    return Done(*command(scenes, out, *more))


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    """One search that nothing disturbed, started as users start it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    words = command(scenes, out, "--save-every", "1")
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_search_writes_what_it_promises(finished):
    out, text = finished
    assert "8 images for the weights, 8 for the alphas" in text
    genotype = load(out / "genotype.json")
    assert genotype.provenance["seed"] == 0 and genotype.provenance["epoch"] == 2
    assert genotype.provenance["images"]["weights"] == 8
    assert genotype.provenance["config"]["space"]["channels"] == 16
    assert len(genotype.provenance["images"]["files"]) == 16 and "torch" in genotype.provenance["versions"]
    for kind in ("png", "svg"):
        assert len(list((out / "cells").glob(f"*.{kind}"))) == len(list((out / "heat").glob(f"*.{kind}"))) == 2
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    records = [line for line in lines if "search/entropy" in line]
    assert len(records) == 2
    assert {"search/skip", "search/attention", "search/expected_gmac", "search/weight_loss"} <= set(records[0])
    assert {"search/agreement", "search/alpha_loss", "search/derived_loss"} <= set(records[1])
    assert "search/alpha_loss" not in records[0], "the alphas rested"
    assert list((out / "tensorboard").iterdir())


def test_the_page_is_self_contained(finished):
    page = (finished[0] / "search.html").read_text()
    assert page.count("<svg") == 3 and "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert "cell 3 inner 7" in page and "architect.warmup" in page


def test_train_takes_the_genotype(scenes, finished, tmp_path):
    done = Done(
        "train.py", "--data.root", scenes, "--network.genotype", finished[0] / "genotype.json", "--network.encoder",
        "test_efficientnet", "--network.channels", "16", "--encoder-weights", "none", "--data.size", "48",
        "--data.workers", "0", "--batch", "4", "--epochs", "1", "--device", "cpu", "--precision", "fp32", "--out",
        tmp_path / "trained",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "trained" / "best.safetensors").is_file()


def test_a_stopped_and_a_killed_search_resume_to_the_same_state(scenes, finished, tmp_path):
    out = tmp_path / "stopped"
    # The alphas move from the fifth step on. A request to stop is answered after the step that runs.
    for number, step, code, last in ((signal.SIGKILL, 5, -signal.SIGKILL, 5), (signal.SIGTERM, 6, 130, 7)):
        done = Done(*command(scenes, out, "--save-every", "1"), signal_at=(number, step))
        assert done.returncode == code
        stopped = load_checkpoint(out / "last.pt")
        assert stopped["progress"]["step"] == last and len(stopped["alpha_optimizer"]["state"]) == 31
    assert search(scenes, out, "--save-every", "1").returncode == 0
    ours, theirs = load_checkpoint(out / "last.pt"), load_checkpoint(finished[0] / "last.pt")
    for part in ("network", "optimizer", "alpha_optimizer", "progress"):
        assert_same(ours[part], theirs[part])
    assert any(key.endswith(".alpha") for key in ours["network"])
    for key in ("genotype", "entropy", "probabilities", "weight_loss", "derived_loss"):
        assert [one[key] for one in ours["history"]] == [one[key] for one in theirs["history"]]


def step_of(out):
    """Steps of the newest checkpoint."""
    return load_checkpoint(out / "last.pt")["progress"]["step"] if (out / "last.pt").is_file() else 0


def assert_same(ours, theirs):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_same(value, theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


def test_two_processes_search_as_one(scenes, tmp_path):
    """One of them writes, and a search that is killed resumes to the same alphas. train.py is started by torchrun."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def two(out):
        return command(scenes, out, "--save-every", "1", "--architect.warmup", "0", "--epochs", "1")

    done = Together(*two(whole))
    text, _ = done.communicate()
    assert done.returncode == 0, text
    assert text.count("epoch 1:") == 1
    assert load(whole / "genotype.json").provenance["processes"] == 2
    running = Together(*two(killed), signal_at=(signal.SIGKILL, 1))
    running.communicate()
    assert running.returncode == -signal.SIGKILL and step_of(killed) == 1
    done = Together(*two(killed))
    text, _ = done.communicate()
    assert done.returncode == 0 and "resuming from" in text, text
    ours, theirs = load_checkpoint(killed / "last.pt"), load_checkpoint(whole / "last.pt")
    for part in ("network", "optimizer", "alpha_optimizer", "progress"):
        assert_same(ours[part], theirs[part])


@pytest.fixture(scope="module")
def bilevel_steps(scenes, tmp_path_factory):
    """What one process and two find for a batch of four over all processes, by `two_searches.py`."""
    found = []
    for start in (Program, Together):
        out = tmp_path_factory.mktemp("steps")
        running = start(
            "tests/two_searches.py", out, *SMALL, "--batch", "4", "--data.workers", "0", "--data.root", scenes, "--out",
            out / "run", "--optim.name", "sgd", "--architect.outputs", "[1.0, 1.0, 1.0]", "--architect.radius", "0.1",
        )  # fmt: skip
        written = running.communicate()
        assert running.returncode == 0, written
        found.append(torch.load(out / "result.pt", weights_only=True))
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_two_processes_compute_the_mean_of_their_shares(bilevel_steps, shared):
    """Gradients of weights and alphas, in the first and the second order; with shared BatchNorm of the whole batch."""
    one, two = (found[shared] for found in bilevel_steps)
    for order, tolerance in (("first", 1e-3), ("second", 2e-2)):
        torch.testing.assert_close(two[f"{order} loss"], one[f"{order} loss"])
        scale = one[order].abs().max().item()
        torch.testing.assert_close(two[order], one[order], rtol=tolerance, atol=tolerance * scale, msg=order)
    assert (one["second"] - one["first"]).abs().max() > 0.05 * one["first"].abs().max(), "the second order adds to it"
    for name, gradient in one["weights"].items():
        scale = max(gradient.abs().max().item(), 1e-4)
        torch.testing.assert_close(two["weights"][name], gradient, rtol=1e-2, atol=1e-2 * scale, msg=name)


def test_the_polishing_loss_ramps_in(scenes, tmp_path):
    config = parse(SearchConfig, "", [
        *SMALL, "--data.workers", "0", "--data.root", str(scenes), "--out", str(tmp_path), "--loss.bce", "0",
        "--loss.iou", "0", "--loss.polish", "1", "--loss.ramp", "1",
    ])  # fmt: skip
    search = set_up(config, Processes(0, 1, torch.device("cpu")))
    batch = next(iter(search.halves.weights))
    steps = search.halves.steps * config.epochs
    first = search.loss(batch).item()
    search.progress.epoch, search.progress.batch = config.epochs - 1, search.halves.steps - 1
    assert first == pytest.approx(search.loss(batch).item() / steps, rel=1e-3)


def test_both_halves_are_drawn_apart(scenes, tmp_path):
    """By default order and augmentation differ between the halves; a stated seed gives those of earlier versions."""

    def orders(*more):
        given = [*SMALL, "--data.workers", "0", "--data.root", str(scenes), "--out", str(tmp_path), *more]
        halves = build_halves(parse(SearchConfig, "", given))
        samplers = halves.weight_batches, halves.alpha_batches
        positions = [[key.index for batch in sampler for key in batch] for sampler in samplers]
        return positions, [half.dataset.seed for half in (halves.weights, halves.alphas)]

    (weights, alphas), (one, other) = orders()
    assert weights != alphas and one != other
    (same, as_before), (one, other) = orders("--seeds.alphas", "0")
    assert same == weights == as_before and one == other == 0
    (moved, apart), (one, other) = orders("--seeds.order", "5")
    assert moved != weights and apart != alphas and one == 0


def test_second_order_partial_channels_auxiliary_skip_and_cost_run(scenes, tmp_path):
    done = search(
        scenes, tmp_path / "all", "--architect.order", "second", "--space.partial", "4",
        "--architect.auxiliary", "1", "--architect.temperature", "[1.0, 0.5]", "--cost.kind", "macs",
        "--epochs", "1", "--architect.warmup", "0", "--data.workers", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "all" / "genotype.json").is_file()


def test_a_collapse_is_told_and_may_end_the_search(scenes, tmp_path):
    done = search(
        scenes, tmp_path / "run", "--watch.skip", "0", "--watch.stop", "true", "--epochs", "3",
        "--architect.warmup", "0", "--space.operations", '["none", "skip_connect"]',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning: epoch 1: 100% of the derived edges are skip_connect" in done.stdout
    assert "epoch 2:" not in done.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--space.operations", "[]"], "space.operations: [] leaves nothing to choose from"),
        (["--space.operations", '["none"]'], "space.operations: [none] leaves nothing to choose from"),
        (["--space.operations", '["conv_5x5"]'], "space.operations: 'conv_5x5' is not registered"),
        (["--space.partial", "3"], "space.partial: 3 does not divide channels 16"),
        (["--batch", "9"], "16 images give 8 for the weights and 8 for the alphas; one batch takes 9 of each"),
        (["--data.images", "99"], "data.images: 99, but"),
        (["--data.alphas", "1"], "data.alphas: 1.0, expected a share between 0 and 1"),
        (["--data.root", "gone"], "gone"),
        (["--cost.kind", "latency"], "cost.table: kind latency needs one"),
        (["--cost.kind", "latency", "--cost.table", "gone.json"], "cost.table: gone.json is no file"),
        (["--architect.order", "second", "--optim.name", "adamw"], "architect.order: second order needs"),
        (["--architect.lrr", "1"], "lrr"),
        (["--epochs", "0"], "epochs: 0, expected a number from 1"),
        (["--save-every", "0"], "save-every: 0, expected a number from 1"),
        (["--watch.gap-batches", "-1"], "watch.gap-batches: -1, expected a number from 0"),
        (["--data.workers", "-1"], "data.workers: -1, expected a number from 0"),
        (["--epochs", "1"], "architect.warmup: 0.5 of 1 epochs leaves none in which the alphas move"),
        (["--architect.order", "second", "--precision", "bf16"], "precision: bf16 with architect.order second"),
        (["--operations", '["gone.py"]'], "plugin gone.py: no such file"),
    ],
)
def test_bad_settings_are_one_line(scenes, tmp_path, monkeypatch, capsys, more, message):
    arguments = command(scenes, tmp_path / "run", *more)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        code = exit_on_user_error(search_main)
    except SystemExit as left:  # the command line's own errors
        code = left.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_changed_space_is_refused(scenes, finished):
    before = (finished[0] / "last.pt").read_bytes()
    done = search(scenes, finished[0], "--space.operations", '["none", "skip_connect", "conv_3x3"]')
    assert done.returncode == 2
    assert "space.operations: the run in --out was started with ['none', 'skip_connect', 'conv_3x3'," in done.stderr
    assert (finished[0] / "last.pt").read_bytes() == before


def test_an_operation_of_the_user_is_searched_trained_and_run(tmp_path):
    """A file that registers it is all that it takes; a genotype that names it can't run it by itself.

    Without a dataset scenes are generated.
    """
    plugin, out = tmp_path / "mine.py", tmp_path / "run"
    plugin.write_text(
        "from torch import nn\nfrom net.operations import operation\n\n"
        "@operation('conv_1x1')\ndef _(channels, affine):\n"
        "    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels, affine=affine))\n"
    )
    mine = json.dumps([str(plugin)])
    done = Done(
        "search.py", *SMALL, "--epochs", "1", "--architect.warmup", "0", "--data.scenes", "8", "--data.size", "32",
        "--operations", mine, "--space.operations", '["none", "conv_1x1"]', "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((out / "scenes" / "images").iterdir())) == 8
    genotype = json.loads((out / "genotype.json").read_text())
    assert {name for cell in genotype["cells"] for name in [*cell["outer"], *cell["inner"]]} == {"conv_1x1"}
    arguments = [
        "train.py", "--data.root", str(out / "scenes"), "--network.genotype", str(out / "genotype.json"),
        "--network.encoder", "test_efficientnet", "--network.channels", "16", "--encoder-weights", "none",
        "--data.size", "48", "--data.workers", "0", "--batch", "4", "--epochs", "1", "--device", "cpu",
        "--precision", "fp32", "--out", str(tmp_path / "trained"),
    ]  # fmt: skip
    done = Done(*arguments)
    assert done.returncode == 2 and "Register it in a file given by --plugins" in done.stderr
    done = Done(*arguments, "--operations", mine)
    assert done.returncode == 0, done.stderr
    weights = str(tmp_path / "trained" / "best.safetensors")
    done = Done("test.py", "--weights", weights, "--engine", "torch", "--precision", "fp32", "--out",
                tmp_path / "maps", "--operations", plugin)  # fmt: skip
    assert done.returncode == 0 and list((tmp_path / "maps" / "maps").iterdir()), done.stderr
