"""Options of train.py, each by what it does to a step."""

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open

import train
from data.synthetic import write_scenes
from inference.weights import load_network
from net.genotype import load
from settings.parser import parse
from tests.programs import ROOT
from tests.test_train import SMALL
from training.checkpoints import StateError
from training.network import synchronise_batchnorm
from training.out_of_memory import OutOfMemoryError, reported
from training.processes import Processes
from training.run import set_up
from training.settings import TrainConfig
from training.step import backward
from training.throughput import norm
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, count=12, size=72, seed=0)
    return root


@pytest.fixture
def begin(scenes, tmp_path):
    """Sets up a run in this process, with no workers."""

    def start(*more):
        arguments = [*SMALL, "--data.root", str(scenes), "--out", str(tmp_path / "run"), "--data.workers", "0", *more]
        return set_up(parse(TrainConfig, "", arguments), Processes(0, 1, torch.device("cpu")))

    return start


def weights(run):
    return {name: value.clone() for name, value in run.network.state_dict().items()}


def test_clipping_bounds_the_gradient(begin):
    run = begin("--optim.clip", "0.01")
    step = train.train_step(run, next(iter(run.loaders.training)))
    clipped = norm([parameter.grad for parameter in run.network.parameters()])
    assert step.gradient.item() > 0.01 and clipped.item() == pytest.approx(0.01, rel=1e-3)


def test_a_frozen_stem_stays_and_nothing_else_does(begin):
    run = begin("--freeze-stem", "true", "--epochs", "1")
    before = weights(run)
    train.train_epoch(run)
    after = weights(run)
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    stem = {name for name in before if name.startswith(("encoder.body.conv_stem.", "encoder.body.bn1."))}
    assert len(stem) == 6 and stem <= same
    rest = {name for name, parameter in run.network.named_parameters() if name not in stem and parameter.grad.any()}
    assert len(rest) > 90 and not rest & same


def test_the_polishing_loss_ramps_in(begin):
    polish = []
    for ramp in ("0", "1"):
        run = begin("--loss.ramp", ramp, "--epochs", "4")
        polish.append(backward(run, next(iter(run.loaders.training))).polish.item())
    steps = run.loaders.batches.per_epoch * 4
    assert polish[1] == pytest.approx(polish[0] / steps, rel=1e-3), "the first step of all has its share of the weight"


def test_sizes_follow_the_stages(begin, monkeypatch):
    run = begin("--data.stages", "[{start: 0.0, sizes: [32]}, {start: 0.5, sizes: [48, 64]}]", "--epochs", "4")
    real, seen = train.train_step, []

    def train_step(run, batch):
        seen[-1].add(batch.image.shape[-1])
        return real(run, batch)

    monkeypatch.setattr(train, "train_step", train_step)
    for epoch in range(4):
        run.progress.epoch, run.progress.batch = epoch, 0
        seen.append(set())
        train.train_epoch(run)
    assert seen[:2] == [{32}, {32}] and seen[2] | seen[3] == {48, 64}


def test_bf16_gives_the_same_loss_to_its_precision(begin):
    if not any(torch.cpu.get_capabilities().get(unit) for unit in ("avx512_bf16", "amx_bf16")):
        pytest.skip("this CPU has no bfloat16 units")
    losses = {}
    for precision in ("fp32", "bf16"):
        run = begin("--precision", precision)
        assert run.precision == precision and not run.scaler.is_enabled()
        losses[precision] = train.train_step(run, next(iter(run.loaders.training))).terms.total.item()
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fp16_scales_and_skips_an_overflow(begin, monkeypatch, optimizer):
    # For users it needs a GPU (utils.device says why); this CPU computes it slowly, but with the same scaler.
    monkeypatch.setattr("training.run.choose", lambda config, session, network: "fp16")
    run = begin("--optim.name", optimizer)
    batch = next(iter(run.loaders.training))
    run.scaler._scale = run.scaler._growth_tracker = None
    run.scaler._init_scale = 2.0**60  # gradients overflow
    before = weights(run)
    step = train.train_step(run, batch)
    assert torch.isfinite(step.terms.total) and not torch.isfinite(step.gradient)
    assert all(torch.equal(before[name], value) for name, value in run.network.named_parameters())
    assert run.scaler.get_scale() == 2.0**59
    run.scaler.load_state_dict({**run.scaler.state_dict(), "scale": 2.0**8})
    train.train_step(run, batch)
    assert all(torch.isfinite(value).all() for value in run.network.parameters())
    assert not all(torch.equal(before[name], value) for name, value in run.network.named_parameters())
    run.session.save()
    run.session.close()
    assert begin("--optim.name", optimizer).scaler.state_dict() == run.scaler.state_dict()


def test_compiled_gradients_are_the_same(begin, monkeypatch):
    # Captured, differentiated and called as a whole; the default backend would then spend minutes on C++ code.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    genotype = str(ROOT / "tests" / "every_operation.json")  # of few edges with weights: a third of the time
    gradients = []
    for compiled in ("false", "true"):
        run = begin("--compile", compiled, "--accumulate", "1", "--network.genotype", genotype)
        run.network.eval()  # BatchNorm over four small images would blow rounding up
        backward(run, next(iter(run.loaders.training)))
        named = run.network.named_parameters()
        gradients.append({name: parameter.grad for name, parameter in named if parameter.grad is not None})
        assert "_orig_mod" not in "".join(run.network.state_dict())
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 100
    for name, plain in gradients[0].items():
        scale = max(plain.abs().max().item(), 1e-6)
        torch.testing.assert_close(gradients[1][name], plain, rtol=1e-2, atol=1e-3 * scale, msg=name)


def test_synchronised_batchnorm_keeps_the_keys():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    synchronised = synchronise_batchnorm(network, Processes(0, 2, torch.device("cuda")))
    assert isinstance(synchronised[1], torch.nn.SyncBatchNorm)
    assert synchronised.state_dict().keys() == network.state_dict().keys()


def test_synchronised_batchnorm_keeps_timms_activations():
    encoder = timm.create_model("efficientnet_lite0", features_only=True)
    images = torch.randn(1, 3, 64, 64)
    expected = encoder.eval()(images)
    synchronised = synchronise_batchnorm(encoder, Processes(0, 2, torch.device("cuda"))).eval()
    for level, known in zip(synchronised(images), expected, strict=True):
        torch.testing.assert_close(level, known)


def test_a_frozen_stem_stays_frozen_where_batchnorm_is_synchronised(begin, monkeypatch):
    # As on GPUs, which this machine may not have; the conversion itself needs none.
    on_gpus = Processes(0, 2, torch.device("cuda"))
    monkeypatch.setattr(
        "training.network.synchronise_batchnorm", lambda network, _: synchronise_batchnorm(network, on_gpus)
    )
    run = begin("--freeze-stem", "true", "--sync-batchnorm", "true")
    network, frozen = run.network, run.frozen
    norms = [module for part in frozen for module in part.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert norms and all(norm in list(network.modules()) for norm in norms)
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def test_a_resumed_run_draws_what_the_stopped_one_would_have(begin):
    run = begin()
    draw = lambda: (random.random(), np.random.random(), torch.rand(3).tolist())  # noqa: E731
    draw()
    train.train_step(run, next(iter(run.loaders.training)))
    run.session.save()
    expected = draw()
    run.session.close()
    begin()
    assert draw() == expected


def test_without_a_validation_split_no_score_is_made_up(begin):
    run = begin("--data.held_out", "0", "--epochs", "1")
    train.train_epoch(run)
    train.finish_epoch(run)
    assert run.progress.best_epoch == 1 and run.progress.best_scores == {}
    with safe_open(run.config.out / "best.safetensors", "pt") as file:
        assert json.loads(file.metadata()["notes"])["held_out"] == {}


def test_epochs_between_validations(begin, monkeypatch):
    """The last epoch is always validated; without a split the weights of the last epoch are still kept."""
    validated = []
    monkeypatch.setattr(train, "validate_epoch", lambda run: validated.append(run.progress.epoch) or {"wfm": 0.5})
    run = begin("--validate-every", "2", "--epochs", "5")
    run.progress.epoch = 0
    for _ in range(5):
        train.finish_epoch(run)
    assert validated == [2, 4, 5] and run.progress.best_epoch == 2
    assert load_checkpoint(run.config.out / "last.pt")["progress"]["epoch"] == 5


def test_an_average_is_what_is_validated_and_kept(begin):
    run = begin("--average.decay", "0.99", "--epochs", "1")
    train.train_epoch(run)
    seen = {}
    own = weights(run)
    real = train.validate_epoch
    validate = lambda run: (seen.update(weights(run)), real(run))[1]  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "validate_epoch", validate)
        train.finish_epoch(run)
    assert all(torch.equal(value, seen[name]) for name, value in run.average.weights.items())
    assert all(torch.equal(value, own[name]) for name, value in run.network.state_dict().items())
    assert Path(run.config.out / "best.safetensors").is_file()


def test_seeds_are_varied_one_at_a_time(begin):
    """The start, the order, the augmentation and the validation split each have a seed of their own."""

    def drawn(*more):
        run = begin(*more)
        run.session.close()
        order = [key.index for batch in run.loaders.batches for key in batch]
        pairs = [pair.name for pair in run.loaders.training.dataset.pairs]
        start = run.network.heads[0].weight.detach().clone()
        return start, order, run.loaders.training.dataset.seed, pairs

    def changed(*more):
        start, order, augment, split = drawn("--seeds.split", "0", *more)
        return not torch.equal(start, base[0]), order != base[1], augment != base[2], split != base[3]

    base = drawn()
    assert changed() == (False,) * 4
    assert changed("--seed", "1") == (True, True, True, False), "the split that was stated stays"
    assert changed("--seeds.order", "1") == (False, True, False, False)
    assert changed("--seeds.augment", "1") == (False, False, True, False)
    assert changed("--seeds.split", "1") == (False, False, False, True)


def test_saved_files_hold_no_folder(begin, tmp_path):
    genotype = tmp_path / "cells.json"
    cells = load("resnet50")
    genotype.write_text(replace(cells, provenance={"config": {"data": {"root": str(tmp_path / "d")}}}).to_json())
    run = begin("--network.genotype", str(genotype), "--epochs", "1")
    train.train_epoch(run)
    run.session.save()
    train.finish_epoch(run)
    for name in ("last.pt", "previous.pt", "best.safetensors"):
        assert str(tmp_path).encode() not in (run.config.out / name).read_bytes(), name
    assert load_network(run.config.out / "best.safetensors").config.genotype == "cells.json"


def test_a_resumed_run_needs_neither_encoder_nor_initial_weights(begin, tmp_path):
    weights = tmp_path / "start.safetensors"
    run = begin()
    run.save_best(weights)
    run.session.close()
    run = begin("--init", str(weights))
    assert torch.equal(run.network.heads[0].weight, load_network(weights).network.heads[0].weight)
    train.train_step(run, next(iter(run.loaders.training)))
    run.progress.step = 1
    run.session.save()
    run.session.close()
    weights.unlink()
    resumed = begin("--init", str(weights))
    assert all(torch.equal(value, resumed.network.state_dict()[name]) for name, value in weights_of(run).items())


def weights_of(run):
    return run.network.state_dict()


def test_a_resumed_run_needs_no_file_of_the_encoder(begin, tmp_path):
    weights = tmp_path / "encoder.pt"
    run = begin()
    torch.save(run.network.encoder.body.state_dict(), weights)
    run.session.close()
    run = begin("--encoder-weights", str(weights), "--seed", "3")
    assert not run.session.restore(), "a new run"
    run.progress.step = 1
    run.session.save()
    run.session.close()
    weights.unlink()
    resumed = begin("--encoder-weights", str(weights), "--seed", "3")
    assert all(torch.equal(value, resumed.network.state_dict()[name]) for name, value in weights_of(run).items())


def test_a_plugin_that_has_changed_is_refused(begin, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("# one\n")
    run = begin("--plugins", str(plugin))
    run.progress.step = 1
    run.session.save()
    run.session.close()
    plugin.write_text("# two\n")
    with pytest.raises(StateError, match="^plugins: the run in --out was started with"):
        begin("--plugins", str(plugin))


def test_an_epoch_is_saved_before_it_is_validated(begin, monkeypatch):
    """An image of the validation split that cannot be read costs no step; once it can, the run ends as any other."""

    def unreadable(run):
        raise UserError("image.jpg: damaged")

    run = begin("--epochs", "1")
    real = train.validate_epoch
    monkeypatch.setattr(train, "validate_epoch", unreadable)
    with pytest.raises(UserError, match="damaged"):
        train.train(run)
    run.session.close()
    state = load_checkpoint(run.config.out / "last.pt")
    assert state["progress"]["batch"] == run.loaders.batches.per_epoch and state["progress"]["epoch"] == 0
    monkeypatch.setattr(train, "validate_epoch", real)
    resumed = begin("--epochs", "1")
    assert train.train(resumed) == 0 and resumed.progress.step == run.progress.step
    assert resumed.progress.epoch == 1 and "wfm" in resumed.progress.best_scores
    assert all(torch.equal(value, weights_of(run)[name]) for name, value in weights_of(resumed).items())


def test_a_run_on_another_device_is_refused(begin):
    run = begin()
    run.progress.step = 1
    run.session.facts["device"] = "cuda"
    run.session.save()
    run.session.close()
    with pytest.raises(StateError, match="^device: the run in --out was started with cuda, now it is cpu"):
        begin()


def test_out_of_memory_is_one_line():
    cpu = torch.device("cpu")
    message = r"^cpu: out of memory \(.*allocate.*\). Lower batch \(4\)."
    with pytest.raises(OutOfMemoryError, match=message), reported(cpu, "Lower batch (4)."):
        torch.empty(2**46, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), reported(cpu, ""):
        raise RuntimeError("the shape is wrong")


def test_deterministic_kernels_are_asked_for(begin):
    try:
        begin("--deterministic", "true")
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
