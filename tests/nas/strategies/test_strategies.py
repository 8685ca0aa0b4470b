"""Every strategy finds a planted operation, resumes to the bit, and keeps to limit and target."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.settings import AugmentConfig
from nas.evidence import Training, genotypes_of, read_trainings, write_trainings
from nas.genotype_space import GenotypeSpace, names_of
from nas.halves import build_halves, split_halves
from nas.settings import (
    EffectsConfig,
    OneShotConfig,
    PredictorConfig,
    ProxyConfig,
    RandomConfig,
    SearchConfig,
    SearchCostConfig,
    SearchDataConfig,
    SearchError,
    ShortTrainingConfig,
)
from nas.strategies.account import Account
from nas.strategies.effects import EffectsStrategy, trained_genotypes
from nas.strategies.oneshot import OneShotStrategy
from nas.strategies.predictor import PredictorStrategy
from nas.strategies.proxy import SCORES, ProxyStrategy
from nas.strategies.random_draws import RandomStrategy
from nas.strategies.single_path import latin_path, single_path
from nas.strategies.task import Task, base_macs
from net.supernet import build_supernet
from net.wiring import edges
from tests.nas.strategies.planted import DECIDING, PLANTED, SPACE, write_squares
from utils.errors import UserError

pytestmark = pytest.mark.slow

STRATEGIES = {
    "effects": EffectsStrategy, "oneshot": OneShotStrategy, "predictor": PredictorStrategy, "proxy": ProxyStrategy,
    "random": RandomStrategy,
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    write_squares(root, 32)
    augment = AugmentConfig(flip=0.0, crop=0.0)
    return SearchConfig(
        data=SearchDataConfig(root, size=64, workers=0, augment=augment), space=SPACE, encoder_weights="none", batch=4,
        device="cpu", precision="fp32", oneshot=OneShotConfig(steps=60, lr=5e-3, scored=80, images=16),
        predictor=PredictorConfig(initial=9, rounds=1, proposals=3, pool=50), random=RandomConfig(5),
        proxy=ProxyConfig("naswot", 12), training=ShortTrainingConfig(steps=16, lr=5e-3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Trainings of 60 random genotypes of the space. Each edge with the planted operation is worth .001, plus noise."""
    choices, rng = GenotypeSpace(SPACE, 64, SearchCostConfig()), np.random.default_rng(0)
    genotypes = {
        ("random", str(seed)): choices.genotype(choices.draw(np.random.default_rng(seed))) for seed in range(60)
    }
    rows = []
    for (group, name), genotype in genotypes.items():
        score = 0.8 + 0.001 * planted(names_of(genotype)) + rng.normal(0, 5e-4)
        rows.append(Training(group, name, None, 0, 0.01, 0, score, None, None))
    folder = tmp_path_factory.mktemp("evidence")
    write_trainings(folder, rows, genotypes)
    return folder / "trainings.csv"


def task_of(config):
    choices = GenotypeSpace(config.space, config.data.size, config.cost)
    return Task(
        config, torch.device("cpu"), "fp32", build_halves(config), split_halves(config)[1], choices, Account(),
        base_macs(config, choices),
    )  # fmt: skip


def finished(strategy):
    while strategy.done < strategy.total:
        strategy.advance()
    return strategy.outcome()


def planted(names):
    return sum(name == PLANTED for name in names)


def deciding(names):
    """Planted operations on the edges from the levels to the last cell, of 4."""
    return planted([name for edge, name in zip(edges(), names, strict=True) if edge in DECIDING])


@pytest.mark.parametrize("effects", ["edges", "sites"])
def test_oneshot_finds_the_planted_operation(config, effects):
    """By chance all four edges have it in one of 81 searches."""
    task = task_of(replace(config, oneshot=replace(config.oneshot, effects=effects)))
    strategy = OneShotStrategy(task)
    outcome = finished(strategy)
    assert deciding(outcome.names) == 4
    predicted, scores = strategy._predicted(outcome.scored, outcome.worth), [one.score for one in outcome.scored]
    assert np.mean(predicted) == pytest.approx(np.mean(scores)) and np.corrcoef(predicted, scores)[0, 1] > 0.5
    assert len(outcome.worth) == 31 and all(row.keys() == set(SPACE.operations) for row in outcome.worth)
    assert (task.account.supernet_steps, task.account.scored) == (60, 80) and task.account.gmac > 0


def test_predictor_finds_the_planted_operation(config):
    task = task_of(config)
    outcome = finished(PredictorStrategy(task))
    proposed = [deciding(one.names) for one in outcome.scored if "proposal" in one.origin]
    drawn = [deciding(one.names) for one in outcome.scored if one.origin == "random"]
    assert np.mean(proposed) > np.mean(drawn) + 0.5, "proposals have more of it than chance"
    assert deciding(outcome.names) > np.mean(drawn)
    assert task.account.trainings == 12


@pytest.mark.parametrize("score", [name for name in SCORES if name != "gradient_norm"])
def test_proxies_prefer_the_operation_that_computes_something(config, score):
    outcome = finished(ProxyStrategy(task_of(replace(config, proxy=ProxyConfig(score, 12)))))
    counts = [planted(one.names) for one in outcome.scored]
    assert planted(outcome.names) >= np.median(counts)
    assert np.corrcoef(counts, [one.score for one in outcome.scored])[0, 1] > 0.3


def test_gradient_norm_is_that_of_the_decoder(config):
    """It does not find the planted operation: the norm hardly depends on how many edges have weights."""
    task = task_of(config)
    names, images = task.draw(0), task.images(8)
    torch.manual_seed(0)
    network = task.network(names)
    found = SCORES["gradient_norm"](task, network, images, names)
    decoder = [weight for part in (network.laterals, network.cells, network.heads) for weight in part.parameters()]
    gradients = torch.autograd.grad(task.loss(network, images), decoder, allow_unused=True)
    expected = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm().item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_random_finds_the_planted_operation(config):
    task = task_of(config)
    outcome = finished(RandomStrategy(task))
    best = max(outcome.scored, key=lambda one: one.score)
    assert outcome.names == best.names and task.account.trainings == 5
    assert deciding(best.names) > np.mean([deciding(one.names) for one in outcome.scored])
    one = finished(RandomStrategy(task_of(replace(config, random=RandomConfig(1)))))
    assert one.names == outcome.scored[0].names and one.scored == [], "a count of 1 trains none"


@pytest.mark.parametrize(
    ("name", "stops"), [("effects", [1]), ("oneshot", [20, 50]), ("predictor", [5]), ("proxy", [5]), ("random", [1, 2])]
)
def test_a_stopped_strategy_gives_the_same_to_the_bit(config, table, name, stops):
    config = replace(
        config, effects=EffectsConfig(table),
        oneshot=OneShotConfig(30, scored=25, images=8, generations=1, population=4),
        predictor=PredictorConfig(4, 1, 2, 20), random=RandomConfig(3), training=ShortTrainingConfig(steps=4),
    )  # fmt: skip
    whole = STRATEGIES[name](task_of(config))
    expected = finished(whole)
    strategy = STRATEGIES[name](task_of(config))
    for stop in stops:
        while strategy.done < stop:
            strategy.advance()
        torch.manual_seed(5)  # a new process has another state of the generators
        stopped, strategy = strategy, STRATEGIES[name](task_of(config))
        strategy.load_state_dict(stopped.state_dict())
    found = finished(strategy)
    assert [(one.names, one.score) for one in found.scored] == [(one.names, one.score) for one in expected.scored]
    assert found.names == expected.names


def test_effects_finds_the_planted_operation(config, table):
    task = task_of(replace(config, effects=EffectsConfig(table)))
    outcome = finished(EffectsStrategy(task))
    assert planted(outcome.names) >= 28 and deciding(outcome.names) == 4, "of 31, and a third by chance"
    assert outcome.scored[0].score == pytest.approx(0.831, abs=0.004)
    assert task.account.trainings == 48 and len(outcome.worth) == 31, "four fifths of 60"
    assert "of 60 trained genotypes" in outcome.reason
    other = finished(EffectsStrategy(task_of(replace(config, effects=EffectsConfig(table), seed=1))))
    assert other.scored[0].score != outcome.scored[0].score, "another seed draws other trainings"
    half = GenotypeSpace(SPACE, 64, SearchCostConfig()).cost_of([PLANTED] * 31) / 2
    task = task_of(replace(config, effects=EffectsConfig(table), cost=SearchCostConfig(limit=half)))
    cheap = finished(EffectsStrategy(task)).names
    assert task.choices.cost_of(cheap) <= half and planted(cheap) >= 13, "as many as the limit allows, or nearly"


def test_effects_needs_a_table_of_its_space(config, table, tmp_path):
    for path, told in (
        (None, "strategy effects needs the trainings.csv of a comparison"),
        (tmp_path / "trainings.csv", "is no file trainings.csv"),
        (table.parent / "genotypes" / "random_0.json", "is no file trainings.csv"),
    ):
        with pytest.raises(SearchError, match=told):
            EffectsStrategy(task_of(replace(config, effects=EffectsConfig(path))))
    lines = table.read_text().splitlines(keepends=True)
    (tmp_path / "trainings.csv").write_text("".join(lines[:10]))
    shutil.copytree(table.parent / "genotypes", tmp_path / "genotypes")
    with pytest.raises(SearchError, match=r"has 9 random genotypes, expected 10 or more"):
        EffectsStrategy(task_of(replace(config, effects=EffectsConfig(tmp_path / "trainings.csv"))))
    rows = read_trainings(table.parent)
    mixed = tmp_path / "mixed"
    shutil.copytree(table.parent / "genotypes", mixed / "genotypes")
    write_trainings(mixed, [*rows, replace(rows[0], training_seed=1, wfm_validation=2.0)], genotypes_of(table.parent))
    _, scores = trained_genotypes(task_of(config), EffectsConfig(mixed / "trainings.csv"))
    assert scores.tolist() == [one.wfm_validation for one in rows], "not the seed that only one was trained with"
    found = replace(rows[0], group="found", wfm_validation=0.9)
    names = {**genotypes_of(table.parent), ("found", found.genotype): genotypes_of(table.parent)["random", "0"]}
    write_trainings(mixed, [*rows, found], names)
    further = EffectsConfig(mixed / "trainings.csv", ["random", "found"])
    chosen, scores = trained_genotypes(task_of(config), further)
    assert len(chosen) == 61 and chosen[-1] == chosen[0] and scores[-1] == 0.9, "a second round learns from the first"
    write_trainings(mixed, [replace(rows[0], training_seed=1), *rows[1:]], genotypes_of(table.parent))
    with pytest.raises(SearchError, match="its genotypes share no training seed"):
        trained_genotypes(task_of(config), EffectsConfig(mixed / "trainings.csv"))
    space = replace(SPACE, operations=[PLANTED, "test_mean"])
    with pytest.raises(UserError, match="comes from another space"):
        EffectsStrategy(task_of(replace(config, effects=EffectsConfig(table), space=space)))


def test_a_limit_and_a_target_are_met(config):
    free = GenotypeSpace(SPACE, 64, SearchCostConfig())
    most = free.cost_of([PLANTED] * 31)
    worth = [{"test_mean": 0.0, PLANTED: 1.0 + 0.01 * edge, "test_row_mean": 0.5} for edge in range(31)]
    assert free.best(worth) == (PLANTED,) * 31
    limited = GenotypeSpace(SPACE, 64, SearchCostConfig(limit=0.4 * most))
    names = limited.best(worth)
    assert 0.3 * most < limited.cost_of(names) <= 0.4 * most and 0 < planted(names) < 31
    target = GenotypeSpace(SPACE, 64, SearchCostConfig(target=0.3 * most))
    for names in (target.best(worth), *(target.draw(np.random.default_rng(seed)) for seed in range(5))):
        assert target.cost_of(names) == pytest.approx(0.3 * most, rel=0.02)
    first, second = (target.draw(np.random.default_rng(seed)) for seed in (8, 9))
    assert target.fits(target.child(first, second, np.random.default_rng(0)))
    with pytest.raises(SearchError, match=r"cost.target: .*, this space has 0 to"):
        GenotypeSpace(SPACE, 64, SearchCostConfig(target=2 * most))


def test_the_best_under_a_limit_is_the_best_of_all(config):
    """Against all 3^6 genotypes that differ on six edges."""
    free = GenotypeSpace(SPACE, 64, SearchCostConfig())
    rng = np.random.default_rng(0)
    worth = [{name: float(rng.random()) * (edge < 6) for name in SPACE.operations} for edge in range(31)]
    limit = 0.5 * free.cost_of([PLANTED] * 6 + ["test_mean"] * 25)
    limited = GenotypeSpace(SPACE, 64, SearchCostConfig(limit=limit))
    grids = np.stack(np.meshgrid(*[range(3)] * 6), -1).reshape(-1, 6)
    values = []
    for grid in grids:
        names = [SPACE.operations[place] for place in grid] + ["test_mean"] * 25
        if free.cost_of(names) <= limit:
            values.append(sum(row[name] for row, name in zip(worth, names, strict=True)))
    names = limited.best(worth)
    assert sum(row[name] for row, name in zip(worth, names, strict=True)) == pytest.approx(max(values), rel=1e-6)


def test_each_candidate_of_each_edge_is_trained_equally_often():
    options = [("a", "b", "c"), ("a", "b")]
    paths = [latin_path(options, seed=3, step=step) for step in range(6)]
    for edge, candidates in enumerate(options):
        drawn = [path[edge] for path in paths]
        assert all(drawn.count(name) == 6 // len(candidates) for name in candidates)
        assert sorted(drawn[: len(candidates)]) == sorted(candidates), "already in the first block"
    assert paths == [latin_path(options, seed=3, step=step) for step in range(6)]
    assert paths != [latin_path(options, seed=4, step=step) for step in range(6)]


def test_a_single_path_trains_the_candidates_on_it_alone():
    torch.manual_seed(0)
    network = build_supernet(SPACE)
    keys = network.state_dict().keys()
    with single_path(network, [PLANTED] * 31):
        sum(one.square().mean() for one in network(torch.randn(2, 3, 64, 64))).backward()
    assert network.state_dict().keys() == keys
    moved = [mixture.candidates[1] for _, mixture in network.mixtures()]
    assert all(weight.grad is not None for candidate in moved for weight in candidate.parameters())
    assert all(alpha.grad is None for alpha in network.alphas())


def test_oneshot_refuses_partial_channels(config):
    task = task_of(replace(config, space=replace(SPACE, channels=32, partial=2)))
    with pytest.raises(SearchError, match=r"space.partial: 2, but a single path of partial channels"):
        OneShotStrategy(task)
