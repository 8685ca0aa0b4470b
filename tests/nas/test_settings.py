"""The shipped settings are read as they are meant, and the halves have nothing in common."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.synthetic import write_scenes
from nas.compare import CompareConfig
from nas.config import SearchConfig, SearchDataConfig, build_halves, split_halves
from net.supernet import PAPER_SPACE
from utils.config import parse


@pytest.mark.parametrize(
    ("name", "encoder", "channels"),
    [("lite", "efficientnet_lite0", 64), ("smoke", "mobilenetv3_small_050", 16), ("resnet50", "resnet50", 128),
     ("vgg16", "vgg16", 128)],
)  # fmt: skip
def test_a_recipe_searches_the_paper_space(root, name, encoder, channels):
    config = parse(SearchConfig, "", ["--config", str(root / "configs" / f"search_{name}.yaml")])
    assert (config.space.encoder, config.space.channels) == (encoder, channels)
    assert tuple(config.space.operations) == PAPER_SPACE
    assert config.out == Path("runs") / f"search_{name}"


def test_the_comparison_names_files_that_exist(root):
    config = parse(CompareConfig, "", ["--config", str(root / "configs" / "compare_lite.yaml")])
    assert (root / config.search).is_file() and (root / config.train).is_file()
    assert len(config.search_seeds) >= 3 and len(config.random_seeds) >= 5 and len(config.train_seeds) >= 2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 21, 40, seed=0)


def test_halves_are_disjoint_seeded_and_whole(scenes):
    config = SearchConfig(SearchDataConfig(scenes, size=32, workers=0), batch=4)
    weights, alphas = split_halves(config)
    assert not {pair.name for pair in weights} & {pair.name for pair in alphas}
    assert len(weights) + len(alphas) == 21 and abs(len(weights) - len(alphas)) == 1
    assert split_halves(config) == (weights, alphas) != split_halves(replace(config, seed=1))
    part = replace(config, data=replace(config.data, pictures=12, alphas=0.25), batch=3)
    assert [len(half) for half in split_halves(part)] == [9, 3]


def test_two_processes_share_a_batch(scenes):
    config = SearchConfig(SearchDataConfig(scenes, size=32, workers=0), batch=4)
    halves = [build_halves(config, rank, world=2) for rank in range(2)]
    batches = [next(iter(one.weights)).index.tolist() for one in halves]
    assert all(len(batch) == 2 for batch in batches) and not set(batches[0]) & set(batches[1])
    assert halves[0].steps == 2 and halves[0].pictures == halves[1].pictures
