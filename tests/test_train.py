"""train.py end to end on generated scenes: it learns, resumes after a stop, and refuses bad input with one line."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.datasets import read_pair
from data.layouts import find_pairs
from data.loaders import build_loaders
from data.settings import DataConfig
from data.synthetic import write_scenes
from data.transforms import EvalTransform
from inference.weights import load_network
from net.genotype import load
from tests.programs import ENVIRONMENT, ROOT, Done, Program, wait_for
from utils.checkpoint import load_checkpoint
from utils.device import choose_precision
from utils.paths import claim

pytestmark = pytest.mark.slow

SMALL = [
    "--network.encoder", "test_efficientnet", "--network.channels", "16", "--encoder-weights", "none",
    "--data.size", "64", "--data.workers", "1", "--batch", "4", "--epochs", "2", "--optim.name", "adamw",
    "--optim.lr", "0.002", "--optim.encoder-lr", "0.002", "--device", "cpu", "--precision", "fp32",
    "--log-every", "1",
    "--average.decay", "0.9", "--accumulate", "2", "--network.genotype", str(ROOT / "tests" / "few_weights.json"),
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, count=16, size=72, seed=0)
    return root


def command(scenes, out, *more):
    return ["train.py", "--data.root", str(scenes), "--out", str(out), *SMALL, *more]


def train(scenes, out, *more):
    return Done(*command(scenes, out, *more))


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    """One run that nothing disturbed, started as users start it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    words = command(scenes, out, "--save-every", "1")
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_run_writes_what_it_promises(finished):
    out, text = finished
    assert text.startswith("cpu (") and "15 images to train on, 1 in the validation split" in text
    assert f"python test.py --weights {out / 'best.safetensors'}" in text
    assert load_network(out / "best.safetensors").size == 64
    assert load_network(out / "last.pt").config.channels == 16
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line for line in lines if "validation/wfm" in line]
    assert json.loads((out / "config.json").read_text())["optim"]["name"] == "adamw"
    assert (
        f"best on the validation split, epoch {load_checkpoint(out / 'last.pt')['progress']['best_epoch']}: mae" in text
    )


def test_a_run_can_be_watched(finished):
    """TensorBoard and log.jsonl hold the same numbers of every step; TensorBoard the maps after every epoch."""
    out, _ = finished
    board = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0}).Reload()
    names = {
        "loss/total", "loss/bce", "loss/iou", "loss/polish", "rate/encoder", "rate/rest",
        "train/gradient_norm", "train/update_norm", "train/images_per_s", "train/memory_mib", "train/epoch",
        "validation/mae", "validation/wfm", "validation/maxf",
    }  # fmt: skip
    assert set(board.Tags()["scalars"]) == names
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for name in names:
        logged = {line["step"]: line[name] for line in lines if name in line}
        shown = {event.step: event.value for event in board.Scalars(name)}
        assert shown == pytest.approx(logged, rel=1e-6) and len(shown) == (6 if "validation" not in name else 2)
    terms = board.Scalars("loss/bce"), board.Scalars("loss/iou"), board.Scalars("loss/polish")
    for total, *parts in zip(board.Scalars("loss/total"), *terms, strict=True):
        assert total.value == pytest.approx(sum(part.value for part in parts), rel=1e-5)
    (tag,) = board.Tags()["images"]
    images = board.Images(tag)
    assert [image.step for image in images] == [3, 6]
    # One image of the validation split, 64 pixels: image, mask, P1, P2, P3 side by side.
    assert (images[0].width, images[0].height) == (5 * 64, 64)


def test_a_stopped_run_resumes_to_the_same_state(scenes, finished, tmp_path):
    """Stopped once by each signal."""
    out = tmp_path / "stopped"
    for number, step in ((signal.SIGTERM, 1), (signal.SIGINT, 3)):
        done = Done(*command(scenes, out, "--save-every", "1"), signal_at=(number, step))
        assert done.returncode == 130 and load_checkpoint(out / "last.pt")["progress"]["step"] == step + 1
        assert f"stopped by {number.name}; the same command resumes at step {step + 1}" in done.stdout
    assert train(scenes, out, "--save-every", "1").returncode == 0
    assert_same(load_checkpoint(out / "last.pt"), load_checkpoint(finished[0] / "last.pt"))
    best, theirs = (load_file(folder / "best.safetensors") for folder in (out, finished[0]))
    assert_same(best, theirs)


def kill_and_compare(scenes, whole, out, *more):
    """Kills a run at three random moments; it must end as the whole one did."""
    seed = time.time_ns()
    rng = random.Random(seed)
    for target in sorted(rng.sample(range(1, 5), 3)):
        running = Program(*command(scenes, out, *more))
        wait_for(lambda target=target: step_of(out) >= target, running)
        time.sleep(rng.uniform(0, 0.05))  # in the middle of a step, of a save, or of a validation
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=60)
        assert running.returncode == -signal.SIGKILL, f"seed {seed}: not killed at step {target}"
    assert train(scenes, out, *more).returncode == 0
    assert_same(load_checkpoint(out / "last.pt"), load_checkpoint(whole / "last.pt"), f"seed {seed}")
    best, theirs = (load_file(folder / "best.safetensors") for folder in (out, whole))
    assert_same(best, theirs, f"seed {seed}")
    assert logged(out) == logged(whole), f"seed {seed}: what was computed twice is logged once"


def logged(out):
    """Step and names of every entry of a run's log."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], sorted(entry)) for entry in entries]


def test_a_run_killed_at_three_random_moments_ends_with_the_same_state(scenes, finished, tmp_path):
    kill_and_compare(scenes, finished[0], tmp_path / "killed", "--save-every", "1")


def test_so_does_one_with_a_recipe_s_settings(scenes, tmp_path):
    """Several sizes, the machine's own precision, and saves so rare that a kill loses steps."""
    own = choose_precision("auto", torch.device("cpu"))  # stated, since two runs may measure differently
    recipe = ["--save-every", "3", "--precision", own, "--data.stages", "[{start: 0, sizes: [48, 64, 80]}]"]
    assert train(scenes, tmp_path / "whole", *recipe).returncode == 0
    kill_and_compare(scenes, tmp_path / "whole", tmp_path / "killed", *recipe)


def step_of(out):
    """Last step that a run has logged, 0 before the first."""
    path = out / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((int(line.split('"step": ')[1].split(",")[0]) for line in lines if '"step": ' in line), default=0)


def assert_same(ours, theirs, where=""):
    """Every tensor and every value is the same, to the bit; the folder's own path is not compared."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            if key not in ("out", "threads", "torch"):
                assert_same(value, theirs[key], f"{where}/{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for number, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, two, f"{where}/{number}")
    else:
        assert torch.equal(ours, theirs) if torch.is_tensor(ours) else ours == theirs, where


def test_it_learns(scenes, tmp_path):
    rates = ["--optim.lr", "0.005", "--optim.encoder-lr", "0.005", "--accumulate", "1"]
    plain = ["--data.augment.crop", "0", "--data.augment.flip", "0", "--data.held-out", "0"]
    done = train(scenes, tmp_path / "run", "--epochs", "8", *rates, *plain)
    assert done.returncode == 0, done.stderr
    network = load_network(tmp_path / "run" / "best.safetensors").network
    errors, chance = [], []
    for pair in find_pairs(scenes):
        image, mask = EvalTransform()(*read_pair(pair), 64)
        with torch.inference_mode():
            errors.append((torch.sigmoid(network(image[None]).p1[0]) - mask).abs().mean().item())
        chance.append(min(mask.mean().item(), 1 - mask.mean().item()))
    assert np.mean(errors) < 0.8 * np.mean(chance), "worse than a constant map"


def test_another_config_in_the_same_folder_is_refused(scenes, finished):
    before = (finished[0] / "last.pt").read_bytes()
    done = train(scenes, finished[0], "--seed", "7")
    assert done.returncode == 2
    assert "seed: the run in --out was started with 0, now it is 7" in done.stderr
    assert (finished[0] / "last.pt").read_bytes() == before


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to resume for more epochs or to break."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def checkpoints(out):
    return {path.name: path.read_bytes() for path in (*out.glob("*.pt"), *out.glob("*.safetensors"))}


def assert_refused(done, message, out, before):
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert checkpoints(out) == before


def test_a_torn_checkpoint_falls_back_to_the_one_before(scenes, finished, copied):
    last = copied / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    done = train(scenes, copied, "--save-every", "1")
    assert done.returncode == 0, done.stderr
    assert f"{last} is broken and skipped\n" in done.stdout
    assert f"resuming from {copied / 'previous.pt'}" in done.stdout
    assert (copied / "last.broken.pt").is_file(), "else the next save would put it in the whole one's place"
    assert_same(load_checkpoint(last), load_checkpoint(finished[0] / "last.pt"))


def test_two_runs_in_one_folder(scenes, copied):
    before = checkpoints(copied)
    lock = claim(copied)
    done = train(scenes, copied)
    lock.close()
    assert_refused(done, f"{copied}: another run (process {os.getpid()} on ", copied, before)


def test_a_missing_dataset_harms_nothing(scenes, copied):
    before = checkpoints(copied)
    done = train(copied / "gone", copied)
    assert_refused(done, str(copied / "gone"), copied, before)


def test_other_images_are_refused(scenes, copied, tmp_path):
    write_scenes(tmp_path / "more", count=17, size=72, seed=0)
    before = checkpoints(copied)
    done = train(tmp_path / "more", copied)
    assert_refused(done, "images.", copied, before)


def test_as_many_images_of_other_names_are_refused(scenes, copied, tmp_path):
    root = Path(shutil.copytree(scenes, tmp_path / "data"))
    pair = find_pairs(root)[0]
    for path in (pair.image, pair.mask):
        path.rename(path.with_stem(f"{path.stem}_other"))
    before = checkpoints(copied)
    assert_refused(train(root, copied), "images.files: the run in --out was started with", copied, before)


def test_a_genotype_file_that_has_changed_is_refused(scenes, tmp_path):
    genotype, out = tmp_path / "genotype.json", tmp_path / "run"
    record = json.loads(load("resnet50").to_json())
    genotype.write_text(json.dumps(record))
    assert train(scenes, out, "--network.genotype", str(genotype), "--epochs", "1").returncode == 0
    genotype.write_text(json.dumps({**record, "topology": "figure"}))
    before = checkpoints(out)
    done = train(scenes, out, "--network.genotype", str(genotype), "--epochs", "1")
    assert_refused(done, "genotype.topology: the run in --out was started with released, now it is figure", out, before)


def test_a_checkpoint_of_another_layout_is_refused(scenes, copied):
    state = load_checkpoint(copied / "last.pt")
    del state["layout"]
    torch.save(state, copied / "last.pt")
    before = checkpoints(copied)
    assert_refused(train(scenes, copied), "layout 1; a run resumes from auto-msfnet/1, layout 2 or 3", copied, before)


def test_an_unreadable_image_in_the_middle_of_an_epoch(scenes, finished, tmp_path):
    root, out = Path(shutil.copytree(scenes, tmp_path / "data")), tmp_path / "run"
    loaders = build_loaders(DataConfig(root), batch=4, seed=0)
    victim = loaders.training.dataset.pairs[list(loaders.batches)[2][0].index].image  # in the last of three batches
    content = victim.read_bytes()
    victim.write_bytes(content[:200])
    for _ in range(2):  # still broken: nothing changes
        done = train(root, out, "--save-every", "99", "--log-every", "1")
        assert done.returncode == 2
        assert victim.name in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert load_checkpoint(out / "last.pt")["progress"]["step"] == 2, "two whole steps are kept"
    victim.write_bytes(content)  # mended: the run resumes as if nothing had happened
    assert train(root, out, "--save-every", "1").returncode == 0
    ours, whole = (load_checkpoint(folder / "last.pt") for folder in (out, finished[0]))
    for state in (ours, whole):
        del state["config"]["data"]["root"]
    assert_same(ours, whole)


def test_a_loss_that_is_not_finite_stops_the_run(scenes, tmp_path):
    out = tmp_path / "run"
    rates = ["--optim.lr", "1e30", "--optim.encoder-lr", "1e30", "--optim.warmup", "0"]
    done = train(scenes, out, *rates, "--save-every", "1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    step = int(done.stderr.split("the loss is not finite at step ")[1].split()[0])
    assert "another --out and a lower optim.lr" in done.stderr
    assert set(load_checkpoint(out / "non_finite_batch.pt")) == {"image", "mask", "index", "weights"}
    assert load_checkpoint(out / "last.pt")["progress"]["step"] == step >= 1, "the state before that step is kept"


def test_help_needs_no_pytorch():
    """Settings and the parser import no heavy library: it is imported after the command line is parsed."""
    for program in ("train.py", "search.py"):
        code = (
            f"import runpy, sys; sys.argv = [{program!r}, '--help']\n"
            f"try: runpy.run_path({program!r}, run_name='__main__')\n"
            "except SystemExit: print([name for name in ('torch', 'timm', 'matplotlib') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("[]\n") and "--data.root" in done.stdout
