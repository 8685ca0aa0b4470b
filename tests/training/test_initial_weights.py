"""What fits is taken from other weights, and the rest is listed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.weights import LoadedNetwork
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from training.checkpoints import StateError
from training.initial_weights import take_fitting
from training.settings import TrainError

BASE = NetworkConfig("mobilenetv3_small_050", "resnet50", 16)


def network(config, seed):
    torch.manual_seed(seed)
    return build_network(config)


def loaded(config, seed=0):
    return LoadedNetwork(network(config, seed), config, 64, Path("start.safetensors"), "")


def equal(ours, theirs):
    return {name for name, value in ours.state_dict().items() if torch.equal(value, theirs.state_dict()[name])}


def test_everything_fits_the_same_network():
    source, ours = loaded(BASE), network(BASE, 1)
    assert take_fitting(ours, source) == f"init start.safetensors: {len(ours.state_dict())} of " + (
        f"{len(ours.state_dict())} tensors taken"
    )
    assert equal(ours, source.network) == set(ours.state_dict())


def test_another_encoder_leaves_the_encoder_and_laterals():
    source, ours = loaded(BASE), network(replace(BASE, encoder="mobilenetv3_small_075"), 1)
    line = take_fitting(ours, source)
    assert "new: encoder, laterals." in line
    assert all(torch.equal(one, other) for one, other in zip(ours.cells.parameters(), source.network.cells.parameters(),
                                                             strict=True))  # fmt: skip


def test_other_cells_share_the_edges_with_the_same_operation():
    source, ours = loaded(BASE), network(replace(BASE, genotype="vgg16"), 1)
    own = {name: value.clone() for name, value in ours.state_dict().items()}
    line = take_fitting(ours, source)
    changed = 0
    for number, (cell, other) in enumerate(zip(ours.genotype.cells, source.network.genotype.cells, strict=True)):
        for place, (mine, theirs) in enumerate(zip(cell.inner, other.inner, strict=True)):
            prefix = f"cells.{number}.inner.{place}."
            for name, value in ours.state_dict().items():
                if name.startswith(prefix):
                    kept = source.network.state_dict()[name] if mine == theirs else own[name]
                    changed += mine != theirs
                    assert torch.equal(value, kept), name
    assert changed and "new: cells." in line and "encoder" not in line


@pytest.mark.parametrize("kind", ["gate", "attention"])
def test_a_block_on_e5_starts_from_the_maps_of_weights_without_one(kind):
    source, ours = loaded(BASE), network(replace(BASE, context=kind), 1)
    count = len(source.network.state_dict())
    line = take_fitting(ours, source)
    assert line == f"init start.safetensors: {count} of {len(ours.state_dict())} tensors taken; new: context"
    image = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        for mine, theirs in zip(ours.eval()(image), source.network.eval()(image), strict=True):
            assert torch.equal(mine, theirs)


def test_a_block_on_e5_that_has_no_place_is_listed():
    source, ours = loaded(replace(BASE, context="gate")), network(BASE, 1)
    assert take_fitting(ours, source).endswith("tensors taken; left out: context")


def test_nothing_that_fits_is_an_error():
    wide = loaded(replace(BASE, encoder="mobilenetv3_small_075", channels=17))
    ours = network(BASE, 1)
    for name, value in list(wide.network.state_dict().items()):  # only shapes that differ are left
        if name in ours.state_dict() and ours.state_dict()[name].shape == value.shape:
            *path, last = name.split(".")
            part = wide.network.get_submodule(".".join(path))
            (part._parameters if last in part._parameters else part._buffers).pop(last)
    with pytest.raises(TrainError, match="init: no tensor of start.safetensors .* fits this network"):
        take_fitting(ours, wide)


def test_weights_that_are_not_finite_are_refused():
    source = loaded(BASE)
    with torch.no_grad():
        source.network.heads[1].bias.fill_(torch.nan)
    with pytest.raises(StateError, match=r"start.safetensors: heads.1.bias holds NaN or infinity"):
        take_fitting(network(BASE, 1), source)
