"""Searches the three fusion cells of Auto-MSFNet, and compares searched cells with published and random ones.

    python search.py --config configs/search_lite.yaml --data.root DUTS-TR
    torchrun --nproc-per-node 2 search.py --config configs/search_resnet50.yaml --data.root DUTS-TR
    python search.py compare --config configs/compare_lite.yaml

A search that is stopped goes on with the same command. What it writes goes to `--out`: genotype.json (for train.py
--network.genotype), search.html (the whole search on one page), cells/ and heat/ (drawings of every epoch), last.pt (to
go on), config.json, log.jsonl, tensorboard/.
"""

import json
import math
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice, repeat
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.datasets import Batch
from nas.halves import Halves, build_halves, scenes_of
from nas.latency import load_prices
from nas.page import draw_epoch, write_page
from nas.settings import SearchConfig, SearchError, as_stored_now
from nas.watch import EpochProgress, EpochRecord, chosen_record, collapse, discretisation_gap, measure_epoch
from net.architect import Architect, only
from net.cost import ExpectedCost, edge_sides, multiply_accumulates
from net.cpu_kernels import accelerate
from net.losses import saliency_loss
from net.mixture import check_space
from net.settings import NetworkConfig, alphas_rest, relaxation
from net.supernet import SuperNet, build_supernet
from training.optim import build_optimizer, rate_factor
from training.run_folder import claim
from training.run_log import RunLog
from training.state import (
    StateError,
    check_same,
    load_newest,
    random_state,
    save_newest,
    seed_everything,
    set_random_state,
)
from training.stop_request import StopRequest
from utils.config import parse, to_plain
from utils.device import autocast, banner, choose_device, choose_precision, keep_memory
from utils.distributed import Processes, join
from utils.errors import exit_on_user_error
from utils.files import replace_text
from utils.plugins import run_files
from utils.settings import in_group

OutputWeights = tuple[float, float, float]  # of P1, P2, P3
FORMAT = "auto-msfnet-search/2"  # of last.pt
FREE = frozenset(
    {"out", "operations", "plugins", "save_every", "data.workers", "data.root", "device", "watch"}
)  # no effect on the weights


@dataclass
class Progress:
    """Where a search stands: the next batch, and sums of the losses of the epoch so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    weight_loss: float = 0.0
    alpha_loss: float = 0.0
    stopped: bool = False


@dataclass(frozen=True)
class Search:
    """Everything that the loop works with."""

    config: SearchConfig
    processes: Processes
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    network: SuperNet
    trained: nn.Module  # the network itself, or the wrapper that averages gradients over processes
    optimizer: torch.optim.Optimizer
    architect: Architect[Batch]
    macs: ExpectedCost
    halves: Halves
    progress: Progress
    history: list[EpochRecord]
    log: RunLog | None

    def loss(self, batch: Batch) -> Tensor:
        """Loss of the supernet on a batch that is on its device."""
        return _loss(self.network, batch, self.config, self.precision)


# ---------------------------------------------------------------------------------------------- set up


def main() -> int:
    """Searches, or goes on where the last search stopped; `compare` as first argument compares genotypes."""
    if sys.argv[1:2] == ["compare"]:
        from nas.compare import main as compare

        return compare(sys.argv[2:])
    config = parse(SearchConfig, "Search the cells of Auto-MSFNet.")
    run_files(config.plugins)
    keep_memory()
    processes = join(choose_device(config.device))
    try:
        lock = processes.together(lambda: claim(config.out) if processes.first else None)
        search = processes.together(lambda: set_up(config, processes))
        code = run(search)
        del lock
        return code
    finally:
        processes.leave()


def run(search: Search) -> int:
    """Epoch after epoch, until the last one, a collapse that is to end it, or a request to stop."""
    processes, stop = search.processes, StopRequest()
    while search.progress.epoch < search.config.epochs and not search.progress.stopped:
        search_one_epoch(search, stop)
        if processes.any(bool(stop.requested))[0]:
            save(search)
            by = stop.requested or "another process"
            processes.say(f"stopped by {by}; the same command goes on at step {search.progress.step}")
            return 130
        finish_epoch(search)
    processes.together(lambda: finish(search) if processes.first else None)
    return 0


def set_up(config: SearchConfig, processes: Processes) -> Search:
    """Builds everything in a fixed order: seeds, data, network, optimizers, then the state of an earlier run."""
    device = processes.device
    precision = choose_precision(config.precision, device)
    if precision == "fp16":
        raise SearchError("precision: fp16 would need a scaler for each of the two losses. Use bf16, fp32 or auto.")
    if config.architect.order == "second":
        if config.precision not in ("auto", "fp32"):
            raise SearchError(
                f"precision: {config.precision} with architect.order second: a finite difference of such gradients is "
                f"noise. Use fp32 or auto."
            )
        precision = "fp32"
    processes.say(banner(device, precision))
    with in_group("space"):
        check_space(config.space.operations, config.space.channels, config.space.partial)
    halves = _halves(config, processes)
    seed_everything(config.seed)
    weights = None if config.encoder_weights == "none" else config.encoder_weights
    network = build_supernet(config.space, weights).to(device)
    if device.type == "cpu":
        accelerate(network)
    with only(network, network.weights()):
        optimizer = build_optimizer(network, config.optim)
        trained = processes.wrap(network)
    sides = edge_sides(network, config.data.size)
    channels = config.space.channels
    macs = ExpectedCost(network, sides, lambda name, side: multiply_accumulates(name, channels, side))
    price = load_prices(config.cost, channels, network, sides)
    cost = None if price is None else ExpectedCost(network, sides, price)
    architect: Architect[Batch] = Architect(
        network, optimizer, config.architect, lambda batch: _loss(network, batch, config, precision),
        None if cost is None else lambda: config.cost.weight * cost(), processes.mean,
        lambda batch: _loss(network, batch, config, precision, config.architect.outputs),
    )  # fmt: skip
    progress, history = Progress(), []
    found = load_newest(config.out)
    if found:
        restore(found[0], config, processes, halves, network, optimizer, architect, progress, history)
        processes.say(f"going on from {found[1]}: epoch {progress.epoch + 1}, step {progress.step}")
    log = None
    if processes.first:
        replace_text(config.out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
        log = RunLog(config.out, progress.step)
    return Search(
        config, processes, precision, network, trained, optimizer, architect, macs, halves, progress, history, log
    )  # fmt: skip


def _halves(config: SearchConfig, processes: Processes) -> Halves:
    if config.data.root is None and processes.first:
        scenes_of(config)
    processes.gather(None)  # nobody reads scenes before they are all there
    halves = build_halves(config, processes.rank, processes.world, processes.device.type == "cuda")
    counts = halves.images
    processes.say(f"{counts['weights']} images for the weights, {counts['alphas']} for the alphas")
    return halves


def _loss(
    network: nn.Module, batch: Batch, config: SearchConfig, precision: str, outputs: OutputWeights | None = None
) -> Tensor:
    with autocast(batch.image.device, precision):
        logits = network(batch.image)
    settings = config.loss if outputs is None else replace(config.loss, outputs=outputs)
    return saliency_loss(logits, batch.mask, settings).total


# ----------------------------------------------------------------------------------------- search an epoch


def search_one_epoch(search: Search, stop: StopRequest) -> None:
    """Searches from the present position to the end of the epoch, or to the batch after a request to stop."""
    config, progress = search.config, search.progress
    search.network.set_relaxation(*relaxation(config.architect, progress.epoch, config.epochs))
    search.network.train()
    title = f"epoch {progress.epoch + 1}/{config.epochs}" + (", alphas rest" if rests(search) else "")
    bar = tqdm(
        search.processes.in_step(batches(search)), desc=title, initial=progress.batch, total=search.halves.steps,
        unit="step", disable=None if search.processes.first else True,
    )  # fmt: skip
    for training, validation in bar:
        rate = set_rate(search)
        values = step(search, training, validation)
        progress.batch, progress.step = progress.batch + 1, progress.step + 1
        if search.log is not None and progress.step % 5 == 0:
            search.log.scalars(progress.step, {**values, "rate_factor": rate, "epoch": progress.epoch + 1})
        bar.set_postfix({key: f"{value:.3f}" for key, value in values.items() if key.startswith("loss")})
        if search.processes.any(bool(stop.requested))[0]:
            return
        if progress.step % config.save_every == 0:
            save(search)


def rests(search: Search) -> bool:
    """Whether the alphas rest in the present epoch."""
    return alphas_rest(search.config.architect, search.progress.epoch, search.config.epochs)


def batches(search: Search) -> Iterator[tuple[Batch, Batch | None]]:
    """What remains of an epoch: a batch for the weights, and one for the alphas unless they rest."""
    progress, halves = search.progress, search.halves
    halves.weight_batches.set_position(progress.epoch, progress.batch)
    judged = repeat(None) if rests(search) else halves.alphas_from(progress.step)
    return islice(zip(iter(halves.weights), judged, strict=False), halves.steps - progress.batch)


def set_rate(search: Search) -> float:
    """Sets the learning rates of the weights for the next step and returns their share of the peak."""
    config, progress = search.config, search.progress
    factor = rate_factor(config.optim, progress.epoch, progress.batch, search.halves.steps, config.epochs)
    for group in search.optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return factor


def step(search: Search, training: Batch, validation: Batch | None) -> dict[str, float]:
    """One step of the alphas, unless they rest, then one of the weights."""
    training, values = _to_device(training, search), {}
    if validation is not None:
        moved = search.architect.step(training, _to_device(validation, search))
        values = {"loss/alphas": moved.loss.item(), "alphas/cost": moved.cost.item(), "alphas/norm": moved.norm.item()}
        search.progress.alpha_loss += values["loss/alphas"]
    loss, norm = weight_step(search, training)
    values |= {"loss/weights": loss.item(), "weights/norm": norm.item()}
    wrong, error = [key for key, value in values.items() if not math.isfinite(value)], None
    if wrong:
        error = SearchError(
            f"{wrong[0]} is not finite at step {search.progress.step}. The last saved state is in "
            f"{search.config.out / 'last.pt'}. Start anew with another --out and a lower optim.lr or architect.lr, "
            f"with optim.clip, or --precision fp32."
        )
    search.processes.agree(error)
    search.progress.weight_loss += values["loss/weights"]
    return values


def weight_step(search: Search, batch: Batch) -> tuple[Tensor, Tensor]:
    """One step of the weights; returns the loss and the gradient's norm before clipping."""
    weights = search.network.weights()
    with only(search.network, [weight for weight in weights if weight.requires_grad]):
        loss = _loss(search.trained, batch, search.config, search.precision)
        search.optimizer.zero_grad(set_to_none=True)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(weights, search.config.optim.clip or math.inf)
    search.optimizer.step()
    return loss.detach(), norm


def _to_device(batch: Batch, search: Search) -> Batch:
    device = search.processes.device
    image = batch.image.to(device, non_blocking=True, memory_format=torch.channels_last)  # (B, 3, S, S)
    return Batch(image, batch.mask.to(device, non_blocking=True), batch.index)


# --------------------------------------------------------------------------------------- after an epoch


def finish_epoch(search: Search) -> None:
    """Looks at the search, draws it, warns of a collapse, moves on to the next epoch and saves."""
    config, progress, processes = search.config, search.progress, search.processes
    resting, steps = rests(search), search.halves.steps
    sums = processes.gather((progress.weight_loss, progress.alpha_loss))
    weight_loss, alpha_loss = (sum(one) / steps / processes.world for one in zip(*sums, strict=True))
    gap = _gap(search)
    temperature, _ = relaxation(config.architect, progress.epoch, config.epochs)
    progress.epoch, progress.batch, progress.weight_loss, progress.alpha_loss = progress.epoch + 1, 0, 0.0, 0.0
    loop = EpochProgress(progress.epoch, resting, temperature, weight_loss, math.nan if resting else alpha_loss)
    before = search.history[-1] if search.history else None
    record = measure_epoch(search.network, config.space, search.macs, loop, gap, before)
    search.history.append(record)
    signs = collapse(record, config.watch, config.epochs)
    for sign in signs:
        processes.say(f"warning: epoch {record.epoch}: {sign}")
    progress.stopped = bool(signs) and config.watch.stop
    if search.log is not None:
        search.log.scalars(progress.step, record.scalars())
        draw_epoch(record, config)
    alphas = "alphas at rest" if math.isnan(record.alpha_loss) else f"of the alphas {record.alpha_loss:.3f}"
    processes.say(
        f"epoch {record.epoch}: loss of the weights {record.weight_loss:.3f}, {alphas}, "
        f"entropy {record.entropy:.3f}, skip {record.skip:.0%}, attention {record.attention:.0%}, "
        f"{record.derived_gmac:.2f} GMAC"
    )
    save(search)


def _gap(search: Search) -> tuple[float, float]:
    """Losses of the mixture and of the derived edges, averaged over the processes."""
    batches = search.halves.alpha_batches
    batches.set_position(search.progress.epoch, 0)
    taken = [_to_device(batch, search) for batch in islice(search.halves.alphas, search.config.watch.gap_batches)]
    found = search.processes.gather(discretisation_gap(search.network, search.config.space, taken, search.loss))
    mixed, derived = (sum(one) / len(found) for one in zip(*found, strict=True))
    return mixed, derived


def finish(search: Search) -> None:
    """Writes the genotype and the page."""
    config, history = search.config, search.history
    path = config.out / "genotype.json"
    chosen = chosen_record(history, search.progress.stopped)
    notes = {**provenance(search), "epoch": chosen.epoch, **chosen.genotype.provenance}
    replace_text(path, replace(chosen.genotype, provenance=notes).to_json())
    write_page(config.out / "search.html", history, chosen, config, search.halves.images)
    assert search.log is not None
    search.log.close()
    network = NetworkConfig(config.space.encoder, str(path), config.space.channels)
    if search.progress.stopped:
        print(
            f"ended by a sign of collapse after epoch {history[-1].epoch}; the cells are those of epoch {chosen.epoch}"
        )
    print(f"{path} | the whole search: {config.out / 'search.html'}")
    print(
        f"train it: python train.py --network.encoder {network.encoder} --network.genotype {network.genotype} "
        f"--network.channels {network.channels} --data.root DIR"
    )


def provenance(search: Search) -> dict[str, Any]:
    """Where a genotype comes from: settings, data, versions."""
    packages = {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
    packages["python"] = platform.python_version()
    config = to_plain(search.config)
    return {
        "searched_by": "search.py", "seed": search.config.seed, "epochs": search.config.epochs,
        "step": search.progress.step, "images": search.halves.images, "precision": search.precision,
        "processes": search.processes.world, "config": config, "versions": packages,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------ save and go on


def save(search: Search) -> None:
    """Writes last.pt: all that the search needs to go on to the bit."""
    processes = search.processes
    randoms = processes.gather(random_state())  # every process has its own
    state: dict[str, Any] = {
        "format": FORMAT,
        "config": to_plain(search.config),
        "world": search.processes.world,
        "images": search.halves.images,
        "network": search.network.state_dict(),  # alphas included
        "optimizer": search.optimizer.state_dict(),
        "alpha_optimizer": search.architect.optimizer.state_dict(),
        "progress": asdict(search.progress),
        "history": [record.to_plain() for record in search.history],
        "random": randoms,
    }
    processes.together(lambda: save_newest(search.config.out, state) if processes.first else None)


def restore(
    state: dict[str, Any], config: SearchConfig, processes: Processes, halves: Halves, network: SuperNet,
    optimizer: torch.optim.Optimizer, architect: Architect[Batch], progress: Progress, history: list[EpochRecord],
) -> None:  # fmt: skip
    """Puts a saved state over freshly built parts.

    Raises:
        StateError: if the search was made with settings, data or processes that would give another result.
    """
    if state.get("format") != FORMAT:
        raise StateError(
            f"{config.out}: holds a search saved as {state.get('format')}, this version goes on with {FORMAT} alone. "
            f"Give another --out to start anew."
        )
    plain = to_plain(config)
    check_same(as_stored_now(state["config"], plain), plain, FREE)
    images = state["images"] if "images" in state else state["pictures"]  # the name before
    check_same({"images": images, "processes": state["world"]},
               {"images": halves.images, "processes": processes.world})  # fmt: skip
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    architect.optimizer.load_state_dict(state["alpha_optimizer"])
    set_random_state(state["random"][processes.rank])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
    history += [EpochRecord.from_plain(record) for record in state["history"]]


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
