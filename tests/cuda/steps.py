"""Runs, searches and batches as the programs make them, on the fake device."""

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.fake_cuda import CUDA
from data.datasets import Batch
from nas.search_state import Search, SearchProgress, placed
from nas.settings import SearchArchitectConfig, SearchConfig, SearchCostConfig
from nas.strategies.account import Account
from net.architect import Architect, only
from net.auto_msfnet import AutoMSFNet, initialise
from net.cost import ExpectedCost, edge_sides
from net.encoder import Encoder
from net.genotype import Genotype
from net.settings import PAPER_SPACE, NetworkConfig, SpaceConfig
from net.supernet import SuperNet
from net.wiring import edges
from training.ema import Average
from training.optim import build_optimizer
from training.processes import Processes
from training.progress import TrainProgress
from training.readings import Readings
from training.run import Run
from training.run_log import RunLog
from training.settings import AverageConfig, DataConfig, OptimConfig, TrainConfig
from training.throughput import Throughput

HERE = Processes(0, 1, CUDA)
SMALL = NetworkConfig("not built", "resnet50", 16)
SIDE = 64
NOWHERE = Path("/nonexistent")


def batch(count: int = 2) -> Batch:
    """On the CPU, as a loader gives it."""
    image = torch.randn(count, SIDE, SIDE, 3).permute(0, 3, 1, 2)
    return Batch(image, (torch.rand(count, 1, SIDE, SIDE) > 0.5).float(), torch.arange(count))


class FourLevels(Encoder):
    """A convolution, BatchNorm and ReLU a level: a fake operator takes as long as a real one, so there are few."""

    channels = (4, 4, 8, 8)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        widths, steps = (3, *self.channels), (4, 2, 2, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, step, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, step in zip(widths, widths[1:], steps, strict=False)
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        levels = [image]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels[1:]


def _genotype() -> Genotype:
    """Every operation of the paper but `none` on a third of the edges, and skips, which take no time, on the others."""
    names = iter(name for name in PAPER_SPACE if name not in ("none", "skip_connect"))
    places = {edge: number for number, edge in enumerate(edges())}
    return Genotype.choose(
        lambda edge: "skip_connect" if places[edge] % 3 else next(names, "skip_connect"), "released"
    )  # fmt: skip


@cache
def _network() -> AutoMSFNet:
    network = AutoMSFNet(FourLevels(), _genotype(), 16)
    initialise(network)
    return network


@cache
def _supernet() -> SuperNet:
    space = SpaceConfig(SMALL.encoder, 16, ["none", "skip_connect", "sep_conv_3x3"])
    network = SuperNet(FourLevels(), space, frozen_norm=False)
    initialise(network)
    return network


def network() -> AutoMSFNet:
    """A copy, since a module that was moved to the fake device stays there. Not inside of `fake_cuda`."""
    return copy.deepcopy(_network())


def supernet() -> SuperNet:
    """As `network`, with few candidates; test_search_step.py runs an edge with all of them."""
    return copy.deepcopy(_supernet())


def training_run(network: AutoMSFNet, precision: str, optimizer: str, **settings) -> Run:
    """A run of train.py; call it inside of `fake_cuda`, with a network that was made outside."""
    config = TrainConfig(
        data=DataConfig(NOWHERE), network=SMALL, optim=OptimConfig(name=optimizer, clip=5.0),
        average=AverageConfig(0.9), encoder_weights="none", out=NOWHERE, **settings,
    )  # fmt: skip
    moved = network.to(CUDA, memory_format=torch.channels_last).train()
    loaders = SimpleNamespace(batches=SimpleNamespace(per_epoch=10))
    return Run(
        config, HERE, SimpleNamespace(), moved, moved, [], Average(moved, config.average),
        build_optimizer(moved, config.optim), precision, torch.amp.GradScaler("cuda", enabled=precision == "fp16"),
        loaders, RunLog(None), TrainProgress(), Throughput(), Readings(CUDA),
    )  # fmt: skip


def cell_search(supernet: SuperNet, order: str, precision: str) -> Search:
    """A search of search.py with a cost term; call it inside of `fake_cuda`, with a supernet that was made outside."""
    config = SearchConfig(
        space=supernet.space, architect=SearchArchitectConfig(order=order), cost=SearchCostConfig("macs"),
        encoder_weights="none", optim=replace(SearchConfig().optim, clip=5.0), out=NOWHERE,
    )  # fmt: skip
    placed(supernet, CUDA).set_relaxation(0.7, 0.5)
    supernet.joined = True
    with only(supernet, supernet.weights()):
        optimizer = build_optimizer(supernet, config.optim)
    cost = ExpectedCost(supernet, edge_sides(supernet, SIDE), lambda name, side: len(name) * side[0])

    def training_loss(one: Batch) -> torch.Tensor:
        return search.loss(one)

    architect = Architect(
        supernet, optimizer, config.architect, training_loss, lambda: config.cost.weight * cost(),
        HERE.average, lambda one: search.loss(one, outputs=config.architect.outputs), config.optim.clip,
    )  # fmt: skip
    halves = SimpleNamespace(steps=10)
    search = Search(
        config, HERE, SimpleNamespace(), precision, supernet, supernet, optimizer, architect, cost, halves,
        SearchProgress(), [], RunLog(None), Account(), 1e9, None, Readings(CUDA),
    )  # fmt: skip
    return search
