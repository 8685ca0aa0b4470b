"""train.py with soft maps of a teacher: learns from them, logs them, resumes to the bit, and refuses wrong ones."""

import json
import shutil
import sys

import pytest
import torch

import train
from data.layouts import find_pairs
from data.soft_maps import SoftMaps
from data.synthetic import write_scenes
from tests.hostile.training import SMALL, set_up_run
from tests.programs import Done
from tests.soft_maps import write_soft_maps
from tests.test_train import assert_same
from training.checkpoints import StateError
from training.settings import TrainError
from training.step import backward
from training.throughput import norm
from utils.checkpoint import load_checkpoint
from utils.errors import exit_on_user_error

LONGER = (*SMALL, "--batch", "2", "--log-every", "1", "--accumulate", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight scenes; their soft maps in `soft`, and in `small` at a size of their own. To be read only."""
    path = tmp_path_factory.mktemp("taught")
    write_scenes(path / "scenes", count=8, size=72, seed=0)
    write_soft_maps(path / "scenes", path / "soft")
    write_soft_maps(path / "scenes", path / "small", side=40)
    return path


@pytest.fixture
def start(folder, tmp_path):
    """Sets up a run in `tmp_path`, with soft maps where their folder is given."""
    opened = []

    def begin(maps=None, *more, out="run"):
        words = () if maps is None else ("--distillation.maps", maps)
        opened.append(set_up_run(folder, *LONGER, *words, *more, "--out", tmp_path / out))
        return opened[-1]

    yield begin
    for run in opened:
        run.session.close()


def logged(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def saved(run):
    """Ends a run with a checkpoint."""
    run.progress.step = max(run.progress.step, 1)
    run.session.save()
    run.session.close()


def test_one_epoch_by_the_program(folder, tmp_path):
    small, out = folder / "small", tmp_path / "run"
    done = Done("train.py", *LONGER, "--data.root", folder / "scenes", "--out", out, "--distillation.maps", small)
    assert done.returncode == 0, done.stderr
    assert f"soft maps of {small}, weight 0.5; 7 of another size than their image are resized to it" in done.stdout
    steps = [entry for entry in logged(out) if "loss/total" in entry]
    assert len(steps) == 3 and any("validation/wfm" in entry for entry in logged(out))
    for entry in steps:
        parts = [entry[f"loss/{name}"] for name in ("bce", "iou", "polish", "distillation")]
        assert entry["loss/total"] == pytest.approx(sum(parts), rel=1e-5) and min(parts) > 0
    for name in ("best.safetensors", "last.pt"):
        content = (out / name).read_bytes()
        assert str(folder).encode() not in content and b"distillation" in content, name


def test_a_resumed_run_ends_with_the_same_state(start, folder, tmp_path):
    whole = start(folder / "soft", out="whole")
    assert train.train(whole) == 0
    broken = start(folder / "soft")
    for batch in list(broken.loaders.training)[:2]:
        train.train_step(broken, batch)
        broken.progress.batch, broken.progress.step = broken.progress.batch + 1, broken.progress.step + 1
    saved(broken)
    resumed = start(shutil.copytree(folder / "soft", tmp_path / "moved"))
    assert resumed.progress.step == 2 and train.train(resumed) == 0
    ours, theirs = (load_checkpoint(run.config.out / "last.pt") for run in (resumed, whole))
    for name in ("weights", "optimizer", "random", "progress", "found"):
        assert_same(ours[name], theirs[name], name)


def test_a_run_resumes_only_with_its_soft_maps(start, folder):
    soft, small = folder / "soft", folder / "small"
    saved(start(soft))
    for other in (small, None):
        with pytest.raises(
            StateError, match=r"^images.soft_maps: the run in --out was started with \w{16}, now it is "
        ):
            start(other)
    with pytest.raises(StateError, match=r"^distillation.weight: the run .* started with None, now it is 0.3"):
        start(soft, "--distillation.weight", "0.3")
    saved(start(out="plain"))
    with pytest.raises(
        StateError, match=r"^images.soft_maps: the run in --out was started with None, now it is \w{16}"
    ):
        start(soft, out="plain")


def test_maps_that_test_py_writes_are_found(run, folder):
    assert run("--images", folder / "scenes/images") == 0
    pairs = find_pairs(folder / "scenes")
    assert SoftMaps.find(run.out / "maps", pairs).files == [run.out / "maps" / f"{pair.name}.png" for pair in pairs]


def test_the_validation_split_has_no_soft_maps(start, folder, tmp_path):
    maps = shutil.copytree(folder / "soft", tmp_path / "soft")
    run = start(maps, "--data.cache", "true")
    assert all(batch.soft_map is None for batch in run.loaders.validation)
    assert all(batch.soft_map is not None for batch in run.loaders.training)
    (held_out,) = run.loaders.validation.dataset.pairs
    (maps / f"{held_out.name}.png").unlink()
    assert start(maps, out="other").loaders.files == run.loaders.files


def test_the_loss_of_the_masks_is_scaled_and_nothing_else_changes(start, folder):
    plain = start(out="plain")
    batch = next(iter(plain.loaders.training))
    alone, random = backward(plain, batch), torch.random.get_rng_state()
    gradients = {name: parameter.grad.clone() for name, parameter in plain.network.named_parameters()}
    assert alone.distillation == 0 and batch.soft_map is None and "soft_maps" not in plain.loaders.files
    assert train.train(plain) == 0 and not any("loss/distillation" in entry for entry in logged(plain.config.out))

    taught = start(folder / "soft", "--distillation.weight", "0.25")
    other = next(iter(taught.loaders.training))
    assert torch.equal(other.image, batch.image) and torch.equal(other.mask, batch.mask)
    terms = backward(taught, other)
    assert torch.equal(random, torch.random.get_rng_state())
    for name in ("bce", "iou", "polish"):
        assert getattr(terms, name).item() == pytest.approx(0.75 * getattr(alone, name).item(), rel=1e-5)
    changes = [parameter.grad - gradients[name] for name, parameter in taught.network.named_parameters()]
    assert terms.distillation > 0 and norm(changes) > 0


def test_a_batch_whose_loss_is_not_finite_is_saved_with_its_soft_maps(start, folder):
    run = start(folder / "soft")
    batch = next(iter(run.loaders.training))
    batch.soft_map.fill_(torch.nan)
    with pytest.raises(TrainError, match=r"the loss is not finite at step 0 \(total nan, .*distillation nan"):
        train.train_step(run, batch)
    assert load_checkpoint(run.config.out / "non_finite_batch.pt")["soft_map"].shape == batch.mask.shape


@pytest.mark.parametrize(
    ("maps", "weight", "message"),
    [
        (None, "0.3", "distillation.weight: 0.3 without soft maps. Give distillation.maps"),
        ("soft", "0", "distillation.weight: 0.0, expected a number above 0"),
        ("soft", "1.5", "distillation.weight: 1.5, expected a number above 0 up to 1"),
        ("gone", None, "gone: no such folder of soft maps"),
        ("scenes/images", None, "scenes/images: of 7 soft maps 7 not grey (0"),
        (".", None, ".: 7 of 7 training images have no soft map (0"),
    ],
)
def test_wrong_soft_maps_are_one_line_before_training(folder, tmp_path, monkeypatch, capsys, maps, weight, message):
    monkeypatch.chdir(folder)
    given = [("--distillation.maps", maps), ("--distillation.weight", weight)]
    words = [word for option in given if option[1] is not None for word in option]
    monkeypatch.setattr(sys, "argv", ["train.py", *LONGER, "--data.root", "scenes", "--out", str(tmp_path), *words])
    assert exit_on_user_error(train.main) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1 and len(text) < 300, text
    assert not list(tmp_path.glob("*.pt"))
