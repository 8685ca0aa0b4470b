"""The shipped settings are read as they are meant, and the halves have nothing in common."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from data.synthetic import write_scenes
from nas.compare_settings import CompareConfig
from nas.genotype_space import GenotypeSpace, names_of
from nas.halves import build_halves, split_halves
from nas.search_state import as_stored_now
from nas.settings import SearchConfig, SearchCostConfig, SearchDataConfig, StrategyName
from net.genotype import load
from net.settings import PAPER_SPACE
from settings.parser import FORMER_IMAGES, parse, to_plain


@pytest.mark.parametrize(
    ("name", "encoder", "channels"),
    [("lite", "efficientnet_lite0", 64), ("smoke", "test_efficientnet", 16), ("resnet50", "resnet50", 128),
     ("vgg16", "vgg16", 128)],
)  # fmt: skip
def test_a_recipe_searches_the_paper_space(root, name, encoder, channels):
    config = parse(SearchConfig, "", ["--config", str(root / "configs" / f"search_{name}.yaml")])
    assert (config.space.encoder, config.space.channels) == (encoder, channels)
    assert tuple(config.space.operations) == PAPER_SPACE
    assert config.out == Path("runs") / f"search_{name}"


def test_a_search_has_no_block_on_e5(capsys):
    with pytest.raises(SystemExit):
        parse(SearchConfig, "", ["--data.root", "DIR", "--space.context", "gate"])
    assert "unrecognized arguments: --space.context" in capsys.readouterr().err


def test_the_comparison_names_files_that_exist(root):
    config = parse(CompareConfig, "", ["--config", str(root / "configs" / "compare_lite.yaml")])
    assert (root / config.search).is_file() and (root / config.train).is_file()
    assert len(config.search_seeds) >= 3 and len(config.random_seeds) >= 5 and len(config.train_seeds) >= 2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 21, 40, seed=0)


def test_halves_are_disjoint_seeded_and_whole(scenes):
    config = SearchConfig(data=SearchDataConfig(scenes, size=32, workers=0), batch=4)
    weights, alphas = split_halves(config)
    assert not {pair.name for pair in weights} & {pair.name for pair in alphas}
    assert len(weights) + len(alphas) == 21 and abs(len(weights) - len(alphas)) == 1
    assert split_halves(config) == (weights, alphas) != split_halves(replace(config, seed=1))
    part = replace(config, data=replace(config.data, images=12, alphas=0.25), batch=3)
    assert [len(half) for half in split_halves(part)] == [9, 3]


def test_two_processes_share_a_batch(scenes):
    config = SearchConfig(data=SearchDataConfig(scenes, size=32, workers=0), batch=4)
    halves = [build_halves(config, rank, world=2) for rank in range(2)]
    batches = [next(iter(one.weights)).index.tolist() for one in halves]
    assert all(len(batch) == 2 for batch in batches) and not set(batches[0]) & set(batches[1])
    assert halves[0].steps == 2 and halves[0].images == halves[1].images


def test_the_old_key_of_the_images_is_read(tmp_path):
    (tmp_path / "old.yaml").write_text(f"data: {{{FORMER_IMAGES}: 7}}\n")
    config = parse(SearchConfig, "", ["--config", str(tmp_path / "old.yaml")])
    assert config.data == SearchDataConfig(images=7)
    assert parse(SearchConfig, "", [f"--data.{FORMER_IMAGES}", "5"]).data.images == 5


def test_settings_of_an_earlier_checkpoint_mean_what_they_meant():
    """The alphas of an earlier search followed all three outputs, those of a new one follow P1."""
    now = to_plain(SearchConfig())
    later = ("strategy", "effects", "oneshot", "predictor", "proxy", "random", "training")
    stored = {key: value for key, value in now.items() if key not in later}
    stored["data"] = {key: value for key, value in now["data"].items() if key != "images"} | {FORMER_IMAGES: 12}
    stored["architect"] = {key: value for key, value in now["architect"].items()
                           if key not in ("outputs", "warmup_paths")}  # fmt: skip
    stored["cost"] = {key: value for key, value in now["cost"].items() if key not in ("limit", "target")}
    found = as_stored_now(stored, now)
    expected = {**now, "data": {**now["data"], "images": 12}}
    expected["architect"] = {**now["architect"], "outputs": [1.0, 1.0, 1.0]}
    assert found == expected
    assert as_stored_now(now, now) == now


def test_an_epoch_is_a_pass_over_the_images_of_the_weights(scenes):
    """21 images, a seventh of them for the alphas: 18 and 3, so the alphas' half is read three times an epoch."""
    config = SearchConfig(data=SearchDataConfig(scenes, size=32, workers=0, alphas=1 / 7), batch=3)
    halves = build_halves(config)
    assert (halves.steps, halves.alpha_batches.per_epoch) == (6, 1)
    later = halves.alphas_from(2)
    taken = [next(later).index.tolist() for _ in range(3)]
    assert all(sorted(batch) == [0, 1, 2] for batch in taken)
    again = halves.alphas_from(3)
    assert [next(again).index.tolist() for _ in range(2)] == taken[1:], "a resumed search reads the same batches"


def test_equal_halves_are_read_in_step(scenes):
    config = SearchConfig(data=SearchDataConfig(scenes, size=32, workers=0, images=16), batch=4)
    halves = build_halves(config)
    assert halves.steps == halves.alpha_batches.per_epoch == 2
    taken = halves.alphas_from(2)  # the second epoch
    halves.alpha_batches.set_position(1, 0)
    expected = [batch.image for batch in halves.alphas]
    assert all(torch.equal(one, next(taken).image) for one in expected)


def test_the_report_is_asked_for_by_a_bare_option():
    assert parse(CompareConfig, "", ["--report"]).report is True
    config = parse(CompareConfig, "", ["--report", "--jobs", "2"])
    assert config.report is True and config.jobs == 2
    assert parse(CompareConfig, "", ["--report", "false"]).report is False


def test_the_evidence_is_a_pool_of_forty_and_five_searches_of_each_strategy(root):
    config = parse(CompareConfig, "", ["--config", str(root / "configs" / "search_evidence.yaml")])
    assert len(config.random_seeds) == 40 and config.held_out == 1000 and len(config.search_seeds) == 5
    searches = {}
    others = {
        "effects_half": (0, 1.73e8),
        "effects_half_again": (0, 1.73e8),
        "oneshot_half": (0, 1.73e8),
        "effects_again": (5.19e8, 0),
    }
    for name, words in config.variants.items():
        searches[name] = parse(SearchConfig, "", ["--config", str(root / config.search), *shlex.split(words)])
        cost = searches[name].cost
        assert (cost.target, cost.limit) == others.get(name, (config.target, 0))
    again = searches["effects_again"]
    assert set(again.effects.groups) == {"random", "effects"} and again.cost.target * 1.02 < config.target
    assert {search.strategy for search in searches.values()} == set(get_args(StrategyName))


def test_the_shipped_cells_of_lite_cost_half_of_the_published_ones(root):
    """Both as the evidence computes them: 64 channels, 128 pixels."""
    search = parse(SearchConfig, "", ["--config", str(root / "configs" / "search_lite.yaml")])
    choices = GenotypeSpace(search.space, search.data.size, SearchCostConfig())
    cost = {name: choices.cost_of(names_of(load(name))) for name in ("lite", "resnet50")}
    assert cost["lite"] <= cost["resnet50"] / 2
    found = load(root / "benchmarks" / "search_evidence" / "genotypes" / "oneshot_half_2.json")
    assert load("lite").cells == found.cells and found.provenance["macs_of_edges"] == cost["lite"]
