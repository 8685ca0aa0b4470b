"""A search by a strategy in its folder: what it writes, resuming after a stop, and what it refuses."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from data.synthetic import write_scenes
from nas.settings import OneShotConfig, RandomConfig, SearchConfig, SearchDataConfig, SearchError, ShortTrainingConfig
from nas.strategies import run
from nas.strategies.run import search_by_strategy
from nas.strategies.task import Recipe
from net.derive import random_genotype
from net.genotype import load
from net.settings import SpaceConfig
from training.checkpoints import StateError
from training.precision import Timing
from training.processes import Processes
from training.session import Session
from utils.checkpoint import load_checkpoint

SPACE = SpaceConfig("test_efficientnet", 16, ["none", "skip_connect", "conv_3x3", "dil_conv_3x3"])
ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    write_scenes(folder / "data", 16, 40, seed=0)
    (folder / "asked.json").write_text(random_genotype(SPACE, 5).to_json())
    return SearchConfig(
        strategy="oneshot", data=SearchDataConfig(folder / "data", size=32, workers=0), space=SPACE,
        encoder_weights="none", batch=4, device="cpu", precision="fp32", save_every=1,
        oneshot=OneShotConfig(12, scored=8, images=4, also=[folder / "asked.json"]), random=RandomConfig(2),
        training=ShortTrainingConfig(steps=3), out=folder / "whole",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config):
    """A search that nothing disturbed."""
    assert search_by_strategy(config, ALONE) == 0
    return config.out


def test_it_writes_genotype_scores_log_and_page(config, finished):
    genotype = load(finished / "genotype.json")
    notes = genotype.provenance
    assert notes["strategy"] == "oneshot" and notes["reason"].startswith("greatest sum of linear effects")
    budget = notes["budget"]
    assert (budget["supernet_steps"], budget["scored"], budget["trainings"]) == (12, 9, 0)
    assert budget["gmac"] > 0 and budget["minutes"] > 0
    scores = json.loads((finished / "scores.json").read_text())
    assert len(scores["scored"]) == 9 and list(scores["also"]) == [str(config.oneshot.also[0])]
    asked = scores["also"][str(config.oneshot.also[0])]
    assert asked["score"] == scores["scored"][8]["score"] and 0 < asked["predicted"] < 1
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert {"loss/weights"} <= lines[0].keys() and "search/score" in lines[-1]
    page = (finished / "search.html").read_text()
    assert page.count("<svg") == 1 and "default-src 'none'" in page and "<script" not in page
    assert "12 supernet steps, 0 trainings, 9 scored genotypes" in page and "cell 3 inner 7" in page


def test_a_stopped_search_resumes_to_the_same_genotype_and_scores(config, finished, tmp_path, monkeypatch):
    """Stopped by SIGTERM in the supernet's training, then while sub-networks are scored."""
    out = tmp_path / "stopped"
    stopped = replace(config, out=out)
    after_step = Session.after_step

    def after_step_with_a_signal(session):
        # Sent at a step, not after a time: on a fast machine the whole search may end between two looks at its folder.
        if session.progress.step in (5, 15):
            os.kill(os.getpid(), signal.SIGTERM)
        return after_step(session)

    for stop_at in (5, 15):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "after_step", after_step_with_a_signal)
            code = search_by_strategy(stopped, ALONE)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
        assert code == 130 and not (out / "genotype.json").exists()
        assert stop_at <= load_checkpoint(out / "last.pt")["progress"]["step"] < 21
        torch.manual_seed(9)
    assert search_by_strategy(stopped, ALONE) == 0
    assert (out / "scores.json").read_text() == (finished / "scores.json").read_text()
    assert load(out / "genotype.json") == load(finished / "genotype.json")
    ours, theirs = (load_checkpoint(folder / "last.pt")["search"]["network"] for folder in (out, finished))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len((out / "log.jsonl").read_text().splitlines()) > 3


def test_random_searches_in_a_folder(config, tmp_path):
    out = tmp_path / "random"
    assert search_by_strategy(replace(config, strategy="random", out=out), ALONE) == 0
    assert load(out / "genotype.json").provenance["budget"]["trainings"] == 2
    with pytest.raises(StateError, match="strategy: .* started with random, now it is oneshot|strategy"):
        search_by_strategy(replace(config, out=out), ALONE)


def test_a_stop_does_not_wait_for_the_end_of_a_training(config, tmp_path, monkeypatch):
    """SIGTERM in the second of two trainings: it is dropped, and the resumed search does it from its start."""
    whole, out, steps = tmp_path / "whole", tmp_path / "stopped", []
    assert search_by_strategy(replace(config, strategy="random", out=whole), ALONE) == 0
    step = Recipe.step

    def step_with_a_signal(recipe, *arguments):
        steps.append(arguments)
        if len(steps) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        step(recipe, *arguments)

    stopped = replace(config, strategy="random", out=out)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "step", step_with_a_signal)
        assert search_by_strategy(stopped, ALONE) == 130
    for number, handler in before.items():
        signal.signal(number, handler)
    assert len(steps) == 4 and load_checkpoint(out / "last.pt")["progress"]["step"] == 1
    assert search_by_strategy(stopped, ALONE) == 0
    assert (out / "scores.json").read_text() == (whole / "scores.json").read_text()
    budgets = [load(folder / "genotype.json").provenance["budget"] for folder in (out, whole)]
    assert budgets[0]["trainings"] == budgets[1]["trainings"] == 2 and budgets[0]["gmac"] == budgets[1]["gmac"]


def test_the_precision_is_measured_once_and_kept(config, finished, tmp_path, monkeypatch):
    """As in a search by darts; a strategy that runs no network measures nothing."""
    trials = []

    def injected(network, loss, batch, size, device):
        value = loss(torch.zeros(batch, 3, size, size), torch.zeros(batch, 1, size, size), "fp32")
        trials.append((batch, size, network.training, value.requires_grad))
        return {"fp32": Timing(1.0, 1.0)}

    monkeypatch.setattr(run, "trial", injected)
    measured = replace(config, precision="auto", out=tmp_path / "measured")
    assert search_by_strategy(measured, ALONE) == search_by_strategy(measured, ALONE) == 0
    assert trials == [(4, 32, True, True)], "one trial, of a training batch"
    assert load(measured.out / "genotype.json").provenance["precision"] == "fp32"
    assert (measured.out / "scores.json").read_text() == (finished / "scores.json").read_text(), (
        "random state as before"
    )
    monkeypatch.setattr(run.STRATEGIES["oneshot"], "computes", False)
    assert search_by_strategy(replace(measured, out=tmp_path / "unmeasured"), ALONE) == 0
    assert len(trials) == 1


def test_fp16_is_refused(config):
    with pytest.raises(SearchError, match="precision: fp16 would need a scaler"):
        search_by_strategy(replace(config, precision="fp16"), ALONE)


def test_several_processes_are_refused(config):
    with pytest.raises(SearchError, match="strategy: oneshot runs in one process, not in 2"):
        search_by_strategy(config, Processes(0, 2, torch.device("cpu")))
