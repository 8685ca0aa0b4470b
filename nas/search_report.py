"""What a search measures after each epoch, and what it leaves at its end: the genotype and the page."""

import math
from dataclasses import replace
from itertools import islice
from typing import Any

from nas.page import draw_epoch, write_page
from nas.search_state import Search
from nas.search_step import rests
from nas.strategies.darts import within_cost
from nas.versions import versions
from nas.watch import EpochProgress, EpochRecord, chosen_record, collapse, discretisation_gap, measure_epoch
from net.settings import NetworkConfig, relaxation
from settings.parser import to_plain
from training.compatibility import portable
from utils.files import replace_text


def record_epoch(search: Search) -> EpochRecord:
    """Measures the epoch that the search has finished, at its present position. Communicates."""
    config, progress, steps = search.config, search.progress, search.halves.steps
    sums = search.processes.gather((progress.weight_loss, progress.alpha_loss))
    weight_loss, alpha_loss = (sum(one) / steps / search.processes.world for one in zip(*sums, strict=True))
    gap = measure_gap(search)
    temperature, _ = relaxation(config.architect, progress.epoch, config.epochs)
    resting = rests(search)
    loop = EpochProgress(
        progress.epoch + 1, resting, temperature, weight_loss, math.nan if resting else alpha_loss
    )  # fmt: skip
    before = search.history[-1] if search.history else None
    return measure_epoch(search.network, config.space, search.macs, loop, gap, before)


def measure_gap(search: Search) -> tuple[float, float]:
    """Losses of the mixture and of the derived edges, averaged over the processes. Communicates."""
    search.halves.alpha_batches.set_position(search.progress.epoch, 0)
    with search.processes.agreeing():
        batches = islice(search.halves.alphas, search.config.watch.gap_batches)
        taken = [search.to_device(batch) for batch in batches]
        share = discretisation_gap(search.network, search.config.space, taken, search.loss)
    shares = search.processes.gather(share)
    mixed, derived = (sum(one) / len(shares) for one in zip(*shares, strict=True))
    return mixed, derived


def report_epoch(search: Search, record: EpochRecord) -> None:
    """Logs, draws and prints an epoch; notes in the search's progress whether a collapse ends it. Communicates."""
    config, processes = search.config, search.processes
    signs = collapse(record, config.watch, config.epochs)
    for sign in signs:
        processes.print_once(f"warning: epoch {record.epoch}: {sign}")
    search.progress.stopped = bool(signs) and config.watch.stop
    with processes.agreeing():
        if processes.first:
            moved = {} if search.movement is None else search.movement.measure(search.network)
            search.log.scalars(search.progress.step, {**record.scalars(), **moved})
            draw_epoch(record, config)
    alphas = "alphas at rest" if math.isnan(record.alpha_loss) else f"of the alphas {record.alpha_loss:.3f}"
    processes.print_once(
        f"epoch {record.epoch}: loss of the weights {record.weight_loss:.3f}, {alphas}, "
        f"entropy {record.entropy:.3f}, skip {record.skip:.0%}, attention {record.attention:.0%}, "
        f"{record.derived_gmac:.2f} GMAC"
    )


def write_result(search: Search) -> None:
    """Writes the genotype and the page, and prints what to do with them."""
    config, history = search.config, search.history
    path = config.out / "genotype.json"
    chosen = chosen_record(history, search.progress.stopped)
    chosen = replace(chosen, genotype=within_cost(config, chosen))
    notes = {**provenance(search), "epoch": chosen.epoch, **chosen.genotype.provenance}
    replace_text(path, replace(chosen.genotype, provenance=notes).to_json())
    write_page(config.out / "search.html", history, chosen, config, search.halves.images)
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
    """Where a genotype comes from: settings with file names only, data, versions."""
    return {
        "searched_by": "search.py", "strategy": "darts", "budget": search.account.state_dict(),
        "seed": search.config.seed, "epochs": search.config.epochs,
        "step": search.progress.step, "images": search.halves.images, "precision": search.precision,
        "processes": search.processes.world, "config": portable(to_plain(search.config)), "versions": versions(),
    }  # fmt: skip
