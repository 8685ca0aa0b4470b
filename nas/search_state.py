"""Search: everything that the loop of search.py works with, and how it is set up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.datasets import Batch
from nas.halves import Halves, build_halves
from nas.latency import load_prices
from nas.settings import SearchConfig, SearchError
from nas.strategies.account import Account
from nas.strategies.darts import KernelMovement, check_warmup, supernet_macs
from nas.watch import EpochRecord
from net.architect import Architect, only
from net.cost import ExpectedCost, edge_sides, multiply_accumulates
from net.cpu_kernels import accelerate
from net.encoder import check_sizes
from net.losses import saliency_loss
from net.mixture import check_space
from net.supernet import SuperNet, build_supernet
from settings.limits import in_group
from settings.parser import FORMER_IMAGES, to_plain
from training.checkpoints import StateError
from training.compatibility import contents, renamed
from training.optim import build_optimizer
from training.precision import Name, settle, trial
from training.processes import Processes
from training.progress import Progress
from training.random_state import compute_deterministically, seed_everything
from training.readings import Readings
from training.run_log import RunLog
from training.session import Format, Session
from utils.device import autocast, banner
from utils.files import replace_text
from utils.hardware import Precision

FORMAT, LAYOUT = "auto-msfnet-search/3", 3
FREE = frozenset({
    "out", "operations", "plugins", "save_every", "save_minutes", "data.workers", "data.root", "device", "precision",
    "watch",
})  # fmt: skip
OutputWeights = tuple[float, float, float]  # of P1, P2, P3


@dataclass
class SearchProgress(Progress):
    """Position of a search, the sums of both losses of the epoch so far, and whether a collapse ended it."""

    weight_loss: float = 0.0
    alpha_loss: float = 0.0
    stopped: bool = False


class History(list[EpochRecord]):
    """Records of all epochs, as a part of the checkpoint."""

    def state_dict(self) -> list[dict[str, Any]]:
        """The records as plain values."""
        return [record.to_plain() for record in self]

    def load_state_dict(self, state_dict: Sequence[dict[str, Any]], /) -> None:
        """Replaces the records."""
        self[:] = [EpochRecord.from_plain(record) for record in state_dict]


@dataclass(frozen=True)
class Search:
    """The parts of a search.

    Attributes:
        network: the supernet itself.
        trained: the supernet as the step of the weights calls it: gradients averaged over the processes.
        optimizer: of the weights; that of the alphas is the architect's.
        macs: expected multiply-accumulates of the supernet's edges.
        account: what has been spent.
        total_macs: multiply-accumulates of the whole supernet on one image.
        movement: of the kernels, where the warm-up trains single paths.
        readings: what the steps measured and the host has not read.
    """

    config: SearchConfig
    processes: Processes
    session: Session
    precision: Name
    network: SuperNet
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    architect: Architect[Batch]
    macs: ExpectedCost
    halves: Halves
    progress: SearchProgress
    history: History
    log: RunLog
    account: Account
    total_macs: float
    movement: KernelMovement | None
    readings: Readings

    def loss(self, batch: Batch, network: nn.Module | None = None, outputs: OutputWeights | None = None) -> Tensor:
        """Loss on a batch that is on its device, at the present position of the search (for `loss.ramp`).

        Args:
            batch: image (B, 3, S, S), mask (B, 1, S, S).
            network: the supernet or its wrapper.
            outputs: weights of P1, P2, P3 instead of `loss.outputs`.

        Returns:
            A scalar.
        """
        with autocast(batch.image.device, self.precision):
            logits = (network or self.network)(batch.image)
        settings = self.config.loss if outputs is None else replace(self.config.loss, outputs=outputs)
        done = self.progress.share(self.halves.steps, self.config.epochs)
        return saliency_loss(logits, batch.mask, settings, done).total

    def to_device(self, batch: Batch) -> Batch:
        """The batch where the supernet computes, images channels last."""
        device = self.processes.device
        image = batch.image.to(device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
        return Batch(image, batch.mask.to(device, non_blocking=True), batch.index)


def upgrade(settings: dict[str, Any], state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Brings a checkpoint of format 2 to format 3.

    Args:
        settings: plain settings of this call.
        state: the checkpoint.
        path: its file, for the error.

    Raises:
        StateError: for any other format.
    """
    if state.get("format") != "auto-msfnet-search/2":
        raise StateError(
            f"{path}: format {state.get('format')}; a search resumes from {FORMAT} or format 2. Give another --out to "
            f"start anew."
        )
    found = {"processes": state["world"], "images": renamed(state, {FORMER_IMAGES: "images"}).get("images")}
    config = as_stored_now(state["config"], settings)
    config["seeds"] = {**settings["seeds"], "alphas": config["seed"]}  # both halves had the same seed
    added = {"config": config, "found": found, "log": {"entries": None}, "account": {}}
    return {**state, "format": FORMAT, "layout": LAYOUT, **added}


def as_stored_now(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint of any version, under today's keys.

    Args:
        stored: plain values of `SearchConfig` as an earlier version wrote them.
        now: those of this call, for the settings that the earlier version did not have.

    Settings that are missing because they did not exist have the value that gives what was computed then.
    """
    if "strategy" in stored:
        return dict(stored)
    data, architect = renamed(stored["data"], {FORMER_IMAGES: "images"}), dict(stored["architect"])
    architect |= {"outputs": stored["loss"]["outputs"], "warmup_paths": "mixture"}
    cost = {**stored["cost"], "limit": 0.0, "target": 0.0}
    unused = {key: now[key] for key in ("effects", "oneshot", "predictor", "proxy", "random", "training")}
    return {**stored, **unused, "strategy": "darts", "data": data, "architect": architect, "cost": cost}


def set_up(config: SearchConfig, processes: Processes) -> Search:
    """Builds everything in a fixed order: data, seeds, supernet, optimizers; then restores an earlier start's state."""
    if config.deterministic:
        compute_deterministically()
    with processes.agreeing():
        check_precision(config)
        check_warmup(config, processes)
        with in_group("space"):
            check_space(config.space.operations, config.space.channels, config.space.partial)
        check_sizes(config.space.encoder, [config.data.size])
        settings = to_plain(config)
        search_format = Format(FORMAT, LAYOUT, FREE, {}, lambda state, path: upgrade(settings, state, path))
        session = Session(config, search_format, processes)
    with processes.first_before_others():  # the first generates the scenes where there is no dataset
        halves = build_halves(config, processes.rank, processes.world, processes.device.type == "cuda")
    with processes.agreeing():
        seed_everything(config.seed)
        search = build(config, processes, session, halves)
    search = replace(search, precision=choose(search))
    with processes.agreeing():
        attach(search)
        announce(search)
        session.restore()
        if processes.first:
            replace_text(config.out / "config.json", json.dumps(settings, indent=2) + "\n")
        search.log.open(search.progress.step)
    session.rehearse()
    return search


def check_precision(config: SearchConfig) -> None:
    """Raises SearchError if a search does not support the precision."""
    if config.precision == "fp16":
        raise SearchError("precision: fp16 would need a scaler for each of the two losses. Use bf16, fp32 or auto.")
    if config.architect.order == "second" and config.precision not in ("auto", "fp32"):
        raise SearchError(
            f"precision: {config.precision} with architect.order second: a finite difference of such gradients is "
            f"noise. Use fp32 or auto."
        )


def choose(search: Search) -> Name:
    """The precision of the search: as stated, as in the checkpoint, or measured. Communicates."""
    config = search.config

    def loss(image: Tensor, mask: Tensor, name: Name) -> Tensor:
        batch = Batch(image, mask, torch.zeros(len(image), dtype=torch.int64))
        return replace(search, precision=name).loss(batch)

    stated: Precision = "fp32" if config.architect.order == "second" else config.precision
    images = config.batch // search.processes.world
    return settle(stated, search.session, lambda device: trial(search.network, loss, images, config.data.size, device))


def build(config: SearchConfig, processes: Processes, session: Session, halves: Halves) -> Search:
    """The supernet and both optimizers; float32 until the precision is chosen."""
    device, frozen_norm = processes.device, config.encoder_weights != "none"
    fresh = session.saved is None  # a checkpoint has all weights, so the encoder's file is not needed again
    weights = config.encoder_weights if fresh and frozen_norm else None
    network = placed(build_supernet(config.space, weights, frozen_norm), device)
    if device.type == "cpu":
        accelerate(network)
    network.joined = device.type != "cpu"  # a GPU waits for launches
    with only(network, network.weights()):
        optimizer = build_optimizer(network, config.optim)
        trained = processes.data_parallel(network)
    sides, channels = edge_sides(network, config.data.size), config.space.channels
    macs = ExpectedCost(network, sides, lambda name, side: multiply_accumulates(name, channels, side))
    price = load_prices(config.cost, channels, network, sides)
    cost = None if price is None else ExpectedCost(network, sides, price)

    def training_loss(batch: Batch) -> Tensor:
        return search.loss(batch)

    def validation_loss(batch: Batch) -> Tensor:
        return search.loss(batch, outputs=config.architect.outputs)

    architect = Architect(
        network, optimizer, config.architect, training_loss,
        None if cost is None else lambda: config.cost.weight * cost(), processes.average, validation_loss,
        config.optim.clip,
    )  # fmt: skip
    search = Search(
        config, processes, session, "fp32", network, trained, optimizer, architect, macs, halves, SearchProgress(),
        History(), RunLog(config.out if processes.first else None), Account(),
        supernet_macs(network, config.data.size),
        KernelMovement(network) if config.architect.warmup_paths == "single" else None, Readings(device),
    )  # fmt: skip
    return search


def placed(network: SuperNet, device: torch.device) -> SuperNet:
    """The supernet on its device; kernels channels last on a GPU, which would convert them at every convolution."""
    layout = torch.channels_last if device.type == "cuda" else torch.preserve_format
    return network.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]


def attach(search: Search) -> None:
    """States what a checkpoint holds, and what must not change when the search resumes."""
    objects = {
        "network": search.network, "optimizer": search.optimizer, "alpha_optimizer": search.architect.optimizer,
        "history": search.history, "log": search.log, "account": search.account,
        **({} if search.movement is None else {"movement": search.movement}),
    }  # fmt: skip
    facts = {
        "processes": search.processes.world, "device": search.processes.device.type, "precision": search.precision,
        "images": search.halves.images, "plugins": contents(search.config.plugins),
    }  # fmt: skip
    search.session.attach(objects, search.progress, facts, {})


def announce(search: Search) -> None:
    """Prints where and on what the search runs."""
    processes, counts = search.processes, search.halves.images
    whose = "all" if search.config.sync_batchnorm else "each"
    several = f" | {processes.world} processes, BatchNorm over the images of {whose}" if processes.world > 1 else ""
    processes.print_once(banner(processes.device, search.precision) + several)
    processes.print_once(f"{counts['weights']} images for the weights, {counts['alphas']} for the alphas")
