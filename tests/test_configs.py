"""Recipes are valid, state their expected result, and follow those of the field."""

from pathlib import Path

import pytest

from data.settings import SizeStage
from settings.parser import parse
from training.settings import TrainConfig

RECIPES = ["base", "lite", "resnet50", "vgg16"]
FOLDER = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize("name", RECIPES)
def test_the_head_tells_command_hardware_and_expectation(name):
    head = (FOLDER / f"{name}.yaml").read_text().split("\n\n")[0]
    assert all(f"# {word}" in head for word in ("Command", "Hardware", "Expect"))
    assert f"--config configs/{name}.yaml" in head


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_a_recipe(name):
    config = parse(TrainConfig, "", ["--config", str(FOLDER / f"{name}.yaml"), "--seed", "7"])
    assert config.seed == 7 and str(config.data.root) == "DUTS-TR" and config.seeds.split in (None, 0)


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_the_papers_networks_have_the_fields_recipe(name):
    config = parse(TrainConfig, "", ["--config", str(FOLDER / f"{name}.yaml")])
    assert (config.network.encoder, config.network.genotype, config.network.channels) == (name, name, 128)
    assert (config.optim.name, config.optim.lr, config.optim.encoder_lr) == ("sgd", 0.05, 0.005)
    assert (config.optim.momentum, config.optim.weight_decay, config.optim.schedule) == (0.9, 5e-4, "triangular")
    assert (config.batch, config.epochs, config.data.size) == (32, 48, 256)
    augment = config.data.augment
    assert (augment.flip, augment.crop, augment.rotate, augment.colour) == (0.5, 0.125, 0, 0)


def test_stages_are_settings_of_their_own():
    config = parse(TrainConfig, "", ["--config", str(FOLDER / "lite.yaml")])
    assert config.data.stages[0] == SizeStage(0.0, [160, 192, 224]) and config.data.sizes_at(0.4) == [160, 192, 224]
