"""train.py refuses bad settings, a missing GPU and a full disk with one line."""

import json
import resource
import sys

import pytest
import torch

from data.synthetic import write_scenes
from tests.programs import ROOT, Done
from tests.test_train import checkpoints, command, train
from train import main as train_main
from utils.checkpoint import load_checkpoint
from utils.errors import exit_on_user_error


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, count=12, size=72, seed=0)
    return root


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--optim.momentumm", "0.9"], "momentumm"),
        (["--batch", "many"], "batch"),
        (["--network.genotype", "nobody"], "genotype 'nobody' is neither a shipped name"),
        (["--network.encoder", "resnet5"], "encoder 'resnet5' is neither"),
        (["--network.context", "pyramid"], "network.context: "),
        (["--encoder-weights", "gone.pt"], "gone.pt: can't be read (No such file"),
        (["--data.root", "gone"], "gone"),
        (["--batch", "99"], "99"),
        (["--loss.theta0", "4"], "loss.theta0: 4 pixels"),
        (["--average.decay", "1"], "average.decay: 1.0, expected a number from 0 below 1"),
        (["--accumulate", "3"], "batch: 4 images can't be distributed evenly to 1 processes with 3 parts"),
        (["--sync-batchnorm", "true"], "SyncBatchNorm supports only cuda, this run is on cpu"),
        (["--save-every", "0"], "save-every: 0, expected a number from 1"),
        (["--data.workers", "-1"], "data.workers: -1, expected a number from 0"),
        (["--data.size", "0"], "data.size: 0, expected a number from 32"),
        (["--data.stages", "[{start: 0.5, sizes: []}]"], "sizes: [], expected one or more sides"),
        (["--data.stages", "[{start: 0.5, sizes: [64]}, {start: 0.1, sizes: [32]}]"], "in the order of the run"),
        (["--loss.outputs", "[-1, 1, 1]"], "loss.outputs: "),
        (["--loss.terms", '{"dize": 1}'], "loss term 'dize' is not registered. Registered: "),
    ],
)
def test_bad_settings_are_one_line(scenes, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", command(scenes, tmp_path / "run", *more))
    try:
        code = exit_on_user_error(train_main)
    except SystemExit as left:  # the command line's own errors
        code = left.code
    text = capsys.readouterr().err
    assert code == 2 and message in text and text.count("\n") == 1 and len(text) < 300, text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_not_replaced_silently(scenes, tmp_path):
    done = train(scenes, tmp_path / "run", "--device", "cuda")
    assert done.returncode == 2 and "finds no cuda device here" in done.stderr


def train_with_files_below(limit, words):
    """Trains while no file can outgrow a size in bytes: a write fails in its middle."""
    return Done(*words, limits={resource.RLIMIT_FSIZE: limit})


@pytest.mark.parametrize(("name", "limit"), [("config.json", 600), ("best.safetensors", 200_000)])
def test_a_disk_that_fills_up_is_one_line(scenes, tmp_path, name, limit):
    out = tmp_path / "run"
    done = train_with_files_below(limit, command(scenes, out, "--epochs", "1", "--data.workers", "0"))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {out / name}: can't be written (") and done.stderr.count("\n") == 1
    assert not list(out.glob(".*.part.*"))


def test_no_space_left(scenes, tmp_path):
    out = tmp_path / "run"
    assert train(scenes, out, "--epochs", "1").returncode == 0
    settings = json.loads((out / "config.json").read_text())
    state = load_checkpoint(out / "last.pt")
    state["config"]["epochs"] = 2  # as if it had been stopped after the first of two epochs
    torch.save(state, out / "last.pt")
    before, limit = checkpoints(out), (out / "last.pt").stat().st_size // 2
    assert settings["epochs"] == 1
    done = train_with_files_below(limit, command(scenes, out))
    assert done.returncode == 2, done.stderr
    assert f"{out / 'last.pt'}: can't be written (" in done.stderr and "MiB are free there" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert {**checkpoints(out), "best.safetensors": b""} == {**before, "best.safetensors": b""}
    assert not list(out.glob(".*.part.*"))


def test_a_folder_that_cannot_be_written(scenes, tmp_path):
    (tmp_path / "file").write_text("")
    done = train(scenes, tmp_path / "file" / "run")
    assert done.returncode == 2
    assert "cannot be written (Not a directory). Choose another --out" in done.stderr and done.stderr.count("\n") == 1
