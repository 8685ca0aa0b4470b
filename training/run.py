"""Run: everything that the loop of train.py works with, and how it is set up."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import training.validation  # noqa: F401  # before seeds are set: a library in it draws a random number when imported
from data.loaders import Loaders, build_loaders
from evaluation import measures
from inference.weights import load_network, save_weights
from net.auto_msfnet import AutoMSFNet
from net.losses import saliency_loss
from settings.parser import FORMER_IMAGES, to_plain
from training import checkpoints
from training.checkpoints import StateError
from training.compatibility import contents, renamed
from training.ema import Average
from training.initial_weights import take_fitting
from training.network import build, callable_model
from training.optim import build_optimizer
from training.precision import Name, settle, trial
from training.processes import Processes
from training.progress import TrainProgress
from training.random_state import compute_deterministically, seed_everything
from training.readings import Readings
from training.run_log import RunLog
from training.session import Format, Session
from training.settings import FREE, TrainConfig
from training.throughput import Throughput
from utils.checkpoint import FORMAT
from utils.device import autocast, banner
from utils.files import replace_text

BEST = "best.safetensors"


@dataclass(frozen=True)
class Run:
    """The parts of a run.

    Attributes:
        network: the network itself, whose state is saved.
        model: the network as training calls it: wrapped, compiled.
        frozen: parts whose weights and statistics stay.
        average: running average of the weights, if one is kept.
        readings: what the steps measured and the host has not read.
    """

    config: TrainConfig
    processes: Processes
    session: Session
    network: AutoMSFNet
    model: nn.Module
    frozen: list[nn.Module]
    average: Average | None
    optimizer: torch.optim.Optimizer
    precision: Name
    scaler: torch.amp.GradScaler
    loaders: Loaders
    log: RunLog
    progress: TrainProgress
    throughput: Throughput
    readings: Readings

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the network has the averaged weights, if they are kept."""
        return nullcontext() if self.average is None else self.average.applied(self.network)

    def save_best(self, path: Path) -> None:
        """Writes the network's weights, with the settings and scores that they have; file names only."""
        notes = {
            "epoch": self.progress.epoch, "step": self.progress.step, "held_out": self.progress.best_scores,
            "config": self.session.settings,
        }  # fmt: skip
        config = replace(self.config.network, genotype=Path(self.config.network.genotype).name)
        save_weights(path, self.network, config, self.config.data.size, notes)


def upgrade(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Brings a checkpoint of layout 2 to layout 3.

    Raises:
        StateError: for any other layout.
    """
    layout = state.get("layout", 1)
    if state.get("format") != FORMAT or layout != 2:
        raise StateError(
            f"{path}: format {state.get('format')}, layout {layout}; a run resumes from {FORMAT}, layout 2 or 3. Give "
            f"another --out to start anew; test.py still reads weights."
        )
    found = renamed(state["found"], {FORMER_IMAGES: "images"})
    progress = dict(state["progress"])
    progress["best_scores"] = measures.renamed(progress["best_scores"])
    new = {**state, "layout": 3, "found": found, "progress": progress, "log": {"entries": None}}
    return {name: value for name, value in new.items() if value is not None}


TRAINING = Format(FORMAT, 3, FREE, {}, upgrade)


def set_up(config: TrainConfig, processes: Processes) -> Run:
    """Builds everything in a fixed order: seeds, network, optimizer; then restores the state of an earlier start."""
    if config.deterministic:
        compute_deterministically()
    with processes.agreeing():
        session = Session(config, TRAINING, processes)
        seed_everything(config.seed)  # alike in all processes, so that all start with the same weights
        network, frozen = start(config, session)
        loaders = build_loaders(
            config.data, config.batch, config.seed, seeds=config.seeds, parts=config.accumulate, rank=processes.rank,
            world=processes.world, pin=processes.device.type == "cuda", soft_maps=config.distillation.maps,
        )  # fmt: skip
    precision = choose(config, session, network)
    with processes.agreeing():
        run = Run(
            config, processes, session, network, network, frozen,
            Average(network, config.average) if config.average.decay else None,
            build_optimizer(network, config.optim), precision,
            torch.amp.GradScaler(processes.device.type, enabled=precision == "fp16"),
            loaders, RunLog(config.out if processes.first else None), TrainProgress(), Throughput(),
            Readings(processes.device),
        )  # fmt: skip
        seed_everything(config.seed + processes.rank)  # what a layer draws, such as dropout, differs between processes
        attach(run)
        announce(run)
        session.restore()
        if processes.first:
            replace_text(config.out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
        run.log.open(run.progress.step)
    rehearse(run)
    return replace(run, model=callable_model(network, config, processes))


def start(config: TrainConfig, session: Session) -> tuple[AutoMSFNet, list[nn.Module]]:
    """The network with the weights that the run starts from, and its frozen parts.

    A checkpoint has all weights, so a run that resumes needs neither the encoder's file nor that of `init`.
    """
    fresh = session.saved is None
    source = load_network(config.init) if fresh and config.init is not None else None
    from_source = source is not None and source.config.encoder == config.network.encoder
    needed = fresh and config.encoder_weights != "none" and not from_source
    network, frozen = build(config, session.processes, config.encoder_weights if needed else None)
    if source is not None:
        session.processes.print_once(take_fitting(network, source))
    return network, frozen


def choose(config: TrainConfig, session: Session, network: AutoMSFNet) -> Name:
    """The precision of the run: as stated, as in the checkpoint, or measured. Communicates."""

    def loss(image: Tensor, mask: Tensor, name: Name) -> Tensor:
        with autocast(image.device, name):
            logits = network(image)
        return saliency_loss(logits, mask, config.loss).total

    images = config.batch // session.processes.world // config.accumulate
    network.train()
    return settle(config.precision, session, lambda device: trial(network, loss, images, config.data.size, device))


def attach(run: Run) -> None:
    """States what a checkpoint of the run holds, and what must not change when it resumes."""
    objects = {
        "weights": run.network, "average": run.average, "optimizer": run.optimizer, "scaler": run.scaler,
        "log": run.log,
    }  # fmt: skip
    facts = {
        "processes": run.processes.world, "device": run.processes.device.type, "precision": run.precision,
        "images": dict(run.loaders.files), "genotype": run.network.genotype.plain(),
        "plugins": contents(run.config.plugins),
    }  # fmt: skip
    header = {
        "network": asdict(replace(run.config.network, genotype=Path(run.config.network.genotype).name)),
        "genotype": run.network.genotype.to_json(), "size": run.config.data.size,
    }  # fmt: skip
    kept = {name: part for name, part in objects.items() if part is not None}
    run.session.attach(kept, run.progress, facts, header)


def announce(run: Run) -> None:
    """Prints where and on what the run trains."""
    processes, files, distillation = run.processes, run.loaders.files, run.config.distillation
    several = f" | {processes.world} processes, BatchNorm over the images of each" if processes.world > 1 else ""
    processes.print_once(banner(processes.device, run.precision) + several)
    processes.print_once(f"{files['training']} images to train on, {files['held_out']} in the validation split")
    if distillation.maps is not None:
        processes.print_once(
            f"soft maps of {distillation.maps}, weight {distillation.share:g}; {run.loaders.resized} of another size "
            f"than their image are resized to it"
        )


def rehearse(run: Run) -> None:
    """Writes and removes the files of a first save, so that the run does not fail at it after an epoch."""
    with run.processes.agreeing():
        if run.processes.first:
            checkpoints.rehearse(run.config.out / BEST, run.save_best)
    run.session.rehearse()
