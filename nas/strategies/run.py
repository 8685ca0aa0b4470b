"""A search by any strategy but `darts`, in its folder: set up, resume, unit after unit, then genotype and page."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from data.datasets import Batch
from nas.genotype_space import GenotypeSpace
from nas.halves import build_halves, split_halves
from nas.search_state import FREE
from nas.settings import SearchConfig, SearchError
from nas.strategies.account import Account
from nas.strategies.effects import EffectsStrategy
from nas.strategies.oneshot import OneShotStrategy
from nas.strategies.page import write_strategy_page
from nas.strategies.predictor import PredictorStrategy
from nas.strategies.proxy import ProxyStrategy
from nas.strategies.random_draws import RandomStrategy
from nas.strategies.task import Outcome, Strategy, Task, UnitStoppedError, base_macs
from nas.versions import versions
from net.cpu_kernels import accelerate
from net.genotype import Genotype
from net.mixture import check_space
from settings.limits import in_group
from settings.parser import to_plain
from training.checkpoints import StateError
from training.compatibility import contents, portable
from training.precision import Name, Timing, settle, trial
from training.processes import Processes
from training.progress import Progress
from training.random_state import seed_everything
from training.run_log import RunLog
from training.session import Format, Session
from utils.device import banner
from utils.files import replace_text

STRATEGIES = {
    "effects": EffectsStrategy, "oneshot": OneShotStrategy, "predictor": PredictorStrategy, "proxy": ProxyStrategy,
    "random": RandomStrategy,
}  # fmt: skip
"""Strategy by name, but for `darts`, whose loop is search.py's."""
LONG = 0.5
"""Seconds of a unit from which on every unit is saved."""


def search_by_strategy(config: SearchConfig, processes: Processes) -> int:
    """Searches, or resumes, by `config.strategy`; 130 if it was stopped.

    Raises:
        SearchError: with several processes, or settings that the strategy can't use.
    """
    if processes.world > 1:
        raise SearchError(f"strategy: {config.strategy} runs in one process, not in {processes.world}. Start one.")
    session, log, task, strategy = set_up(config, processes)
    bar = tqdm(total=strategy.total, initial=strategy.done, desc=config.strategy, unit="unit", disable=None)
    while strategy.done < strategy.total:
        begin = time.perf_counter()
        try:
            values = strategy.advance()
        except UnitStoppedError:
            session.after_step()
            return 130
        spent = time.perf_counter() - begin
        task.account.minutes += spent / 60
        session.progress.step = strategy.done
        if spent > LONG or strategy.done % 5 == 0:
            read = {name: float(value) for name, value in values.items()}
            log.scalars(strategy.done, {**read, "search/spent_gmac": task.account.gmac})
        bar.update(1)
        if session.after_step():
            return 130
        if spent > LONG:
            session.save()
    session.save()
    finish(config, task, strategy.outcome(), log)
    return 0


def set_up(config: SearchConfig, processes: Processes) -> tuple[Session, RunLog, Task, Strategy]:
    """Builds images, cost table and strategy, then restores the state of an earlier start."""
    session = Session(config, Format("auto-msfnet-strategy", 1, FREE, {}, _refuse), processes)
    if config.precision == "fp16":
        raise SearchError("precision: fp16 would need a scaler of the loss. Use bf16, fp32 or auto.")
    with in_group("space"):
        check_space(config.space.operations, config.space.channels, config.space.partial)
    seed_everything(config.seed)
    halves = build_halves(config, pin=processes.device.type == "cuda")
    choices = GenotypeSpace(config.space, config.data.size, config.cost)
    judged = split_halves(config)[1]
    account = Account()
    task = Task(
        config, processes.device, "fp32", halves, judged, choices, account, base_macs(config, choices),
        lambda: bool(session.stop.requested),
    )  # fmt: skip
    task = replace(task, precision=choose(task, session))
    strategy = STRATEGIES[config.strategy](task)
    log = RunLog(config.out)
    table = config.effects.trainings
    facts = {
        "device": processes.device.type, "precision": task.precision, "images": halves.images,
        "operations": contents(config.plugins), "also": [_names(path) for path in config.oneshot.also],
        "trainings": [] if table is None else contents([table]),
    }  # fmt: skip
    session.attach({"search": strategy, "account": account, "log": log}, Progress(), facts, {})
    processes.print_once(banner(processes.device, task.precision))
    processes.print_once(f"{halves.images['weights']} images for the weights, {halves.images['alphas']} to judge by")
    session.restore()
    replace_text(config.out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
    log.open(session.progress.step)
    session.rehearse()
    return session, log, task, strategy


def choose(task: Task, session: Session) -> Name:
    """The precision of the search: as stated, as in the checkpoint, or the fastest that a random genotype trains in."""
    config = task.config

    def measured(device: torch.device) -> dict[Name, Timing]:
        if not STRATEGIES[config.strategy].computes:
            return {"fp32": Timing(0.0, 0.0)}
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # a search that resumes measures nothing
            network = task.network(task.draw(0)).train()
            if device.type == "cpu":
                accelerate(network)

        def loss(image: Tensor, mask: Tensor, name: Name) -> Tensor:
            batch = Batch(image, mask, torch.zeros(len(image), dtype=torch.int64))
            return replace(task, precision=name).loss(network, batch)

        return trial(network, loss, config.batch, config.data.size, device)

    return settle(config.precision, session, measured)


def finish(config: SearchConfig, task: Task, outcome: Outcome, log: RunLog) -> None:
    """Writes genotype.json, scores.json and search.html, and prints what to do with them."""
    path = config.out / "genotype.json"
    genotype = task.choices.genotype(outcome.names, provenance(config, task, outcome))
    replace_text(path, genotype.to_json())
    scores = {
        "measure": outcome.measure, "also": {path: one._asdict() for path, one in outcome.also.items()},
        "scored": [
            {"names": list(one.names), "score": one.score, "origin": one.origin, "macs": task.macs(one.names)}
            for one in outcome.scored
        ],
    }  # fmt: skip
    replace_text(config.out / "scores.json", json.dumps(scores) + "\n")
    write_strategy_page(config.out / "search.html", genotype, outcome, task)
    log.close()
    print(f"{path}: {outcome.reason} | the whole search: {config.out / 'search.html'}")
    print(
        f"train it: python train.py --network.encoder {config.space.encoder} --network.genotype {path} "
        f"--network.channels {config.space.channels} --data.root DIR"
    )


def provenance(config: SearchConfig, task: Task, outcome: Outcome) -> dict[str, Any]:
    """Where a genotype comes from: strategy, reason, budget, settings with file names only, data, versions."""
    return {
        "searched_by": "search.py", "strategy": config.strategy, "reason": outcome.reason, "seed": config.seed,
        "budget": task.account.state_dict(), "macs_of_edges": task.choices.cost_of(outcome.names),
        "images": task.halves.images, "precision": task.precision, "config": portable(to_plain(config)),
        "versions": versions(),
    }  # fmt: skip


def _names(path: Path) -> dict[str, Any]:
    """A genotype that is asked for, by its content."""
    return Genotype.from_json(path.read_text("utf-8"), str(path)).plain()


def _refuse(state: dict[str, Any], path: Path) -> dict[str, Any]:
    raise StateError(
        f"{path}: format {state.get('format')} is not that of this strategy. Give another --out to start anew."
    )
