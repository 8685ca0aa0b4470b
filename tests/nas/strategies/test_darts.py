"""What `darts` adds: a warm-up by single paths, cells within a limit, its account, and a planted operation."""

from dataclasses import replace

import pytest
import torch

from nas.search_report import record_epoch
from nas.search_state import set_up
from nas.search_step import batches, bilevel_step
from nas.settings import SearchArchitectConfig, SearchConfig, SearchCostConfig, SearchDataConfig, SearchError
from nas.strategies.darts import check_warmup, supernet_macs, within_cost
from nas.strategies.single_path import latin_path
from net.settings import SpaceConfig
from net.supernet import build_supernet
from tests.nas.strategies.planted import PLANTED, SPACE, write_squares
from training.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("darts")
    write_squares(folder / "data", 32)
    return SearchConfig(
        data=SearchDataConfig(folder / "data", size=64, workers=0), space=SPACE, encoder_weights="none", batch=8,
        device="cpu", precision="fp32", epochs=20, out=folder / "out",
        architect=SearchArchitectConfig(lr=0.1, warmup=0.3, warmup_paths="single"),
    )  # fmt: skip


def search(config, epochs):
    """A search after some epochs of its loop, without drawings."""
    found = set_up(config, ALONE)
    for epoch in range(epochs):
        found.progress.epoch, found.progress.batch = epoch, 0
        found.network.train()
        for training, validation in batches(found):
            bilevel_step(found, training, validation)
            found.progress.step += 1
            found.progress.batch += 1
    found.progress.batch = 0
    return found


@pytest.mark.parametrize("partial", [1, 2])
def test_a_step_of_the_warm_up_moves_the_candidates_on_its_path_alone(config, tmp_path, partial):
    space = SpaceConfig("test_efficientnet", 16, ["skip_connect", "conv_3x3", "sep_conv_3x3"], partial=partial)
    found = search(replace(config, space=space, out=tmp_path / "out"), 0)
    before = {name: weight.clone() for name, weight in found.network.state_dict().items()}
    training, validation = next(iter(batches(found)))
    assert validation is None, "the alphas rest"
    bilevel_step(found, training, None)
    moved = {name for name, weight in found.network.state_dict().items() if not torch.equal(weight, before[name])}
    options = [mixture.names for _, mixture in found.network.mixtures()]
    path = latin_path(options, config.seed, 0)
    on_path = set()
    for (edge, mixture), chosen in zip(found.network.mixtures(), path, strict=True):
        start = f"cells.{edge.cell - 1}.{edge.kind}.{edge.number}.candidates.{mixture.names.index(chosen)}."
        on_path |= {name for name in before if name.startswith(start)}
    assert {name for name in moved if ".candidates." in name} == on_path
    measured = found.movement.measure(found.network)
    laterals = [name for name in before if name.startswith("laterals.") and before[name].ndim == 4]
    now = found.network.state_dict()
    squares = [sum(part(name).square().sum() for name in laterals) for part in (lambda name: now[name] - before[name],
               before.__getitem__)]  # fmt: skip
    assert measured["search/moved_laterals"] == pytest.approx((squares[0] / squares[1]).sqrt().item(), rel=1e-4)
    assert measured["search/moved_candidates"] > 0


def test_darts_finds_the_planted_operation(config):
    found = search(config, config.epochs)
    found.progress.epoch = config.epochs - 1
    record = record_epoch(found)
    assert record.genotype.cells[2].outer[2:] == (PLANTED, PLANTED), "the two finest levels, by chance in one of 9"
    account = found.account
    assert account.supernet_steps == 40 + 28 and account.gmac > 0 and account.minutes > 0


def test_cells_are_derived_within_a_limit(config, tmp_path):
    found = search(replace(config, out=tmp_path / "limit"), 0)
    record = record_epoch(found)
    assert within_cost(config, record) == record.genotype
    free = found.macs.of(record.genotype, SPACE.operations)
    limited = replace(config, cost=SearchCostConfig(limit=0.5 * free))
    genotype = within_cost(limited, record)
    assert 0 < found.macs.of(genotype, SPACE.operations) <= 0.5 * free
    assert genotype.provenance["macs_of_edges"] == pytest.approx(found.macs.of(genotype, SPACE.operations))


def test_the_supernets_multiply_accumulates_are_those_of_its_layers():
    space = SpaceConfig("test_efficientnet", 16, ["skip_connect"])
    more = SpaceConfig("test_efficientnet", 16, ["skip_connect", "conv_3x3"])
    difference = supernet_macs(build_supernet(more), 64) - supernet_macs(build_supernet(space), 64)
    sides = [(2, 2), (4, 4), (8, 8), (16, 16)]  # E5 to E2
    outer = 3 * sum(height * width for height, width in sides)
    inner = 5 * 4 * 4 + 7 * 8 * 8 + 7 * 16 * 16
    assert difference == 9 * 16 * 16 * (outer + inner)


def test_single_paths_in_several_processes_are_refused(config):
    with pytest.raises(SearchError, match=r"architect.warmup_paths: single runs in one process, not in 2"):
        check_warmup(config, Processes(0, 2, torch.device("cpu")))
    check_warmup(config, ALONE)
