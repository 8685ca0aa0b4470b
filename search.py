"""Searches the three fusion cells of Auto-MSFNet, and compares searched cells with published and random ones.

    python search.py --config configs/search_lite.yaml --data.root DUTS-TR
    torchrun --nproc-per-node 2 search.py --config configs/search_resnet50.yaml --data.root DUTS-TR --strategy darts
    python search.py --strategy oneshot --config configs/search_lite.yaml --space.partial 1 --data.root DUTS-TR
    python search.py compare --config configs/compare_lite.yaml

A search that was stopped resumes with the same command. It writes to `--out`: genotype.json (for train.py
--network.genotype), search.html (the whole search on one page), cells/ and heat/ (drawings of every epoch), last.pt and
previous.pt (checkpoints), config.json, log.jsonl, tensorboard/.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nas.compare_settings import CompareConfig
from nas.settings import SearchConfig
from settings.parser import parse
from utils.errors import exit_on_user_error

LOG_EVERY = 5  # steps

if TYPE_CHECKING:  # imported where they are used, after the command line is parsed: `--help` needs no PyTorch
    from nas.search_state import Search


def main() -> int:
    """Searches, or resumes where the last search stopped; the subcommand `compare` compares genotypes."""
    config = parse(SearchConfig, "Search the cells of Auto-MSFNet.", commands={"compare": CompareConfig})
    if isinstance(config, CompareConfig):
        from nas.compare import compare_genotypes

        return compare_genotypes(config)

    from inference.memory import keep_memory
    from nas.search_state import set_up
    from nas.strategies.run import search_by_strategy
    from net.losses import check_terms
    from settings.plugins import run_files
    from training.out_of_memory import reported
    from training.processes import join
    from utils.device import choose_device

    run_files(config.plugins)
    check_terms(config.loss)
    keep_memory()
    processes = join(choose_device(config.device))
    try:
        with reported(processes.device, f"Lower batch ({config.batch}) or data.size, or raise space.partial."):
            if config.strategy != "darts":
                return search_by_strategy(config, processes)
            return search_cells(set_up(config, processes))
    finally:
        processes.leave()


def search_cells(search: Search) -> int:
    """Epoch after epoch, until the last one, a collapse that ends the search, or a request to stop."""
    from nas.search_report import write_result
    from nas.search_step import read_steps

    search.session.check = lambda: read_steps(search)
    while search.progress.epoch < search.config.epochs and not search.progress.stopped:
        if search_epoch(search):
            return 130
        search.session.save()  # before the epoch is measured, which reads images and may fail
        finish_epoch(search)
    with search.processes.agreeing():
        if search.processes.first:
            write_result(search)
    return 0


def search_epoch(search: Search) -> bool:
    """Searches from the present position to the end of the epoch; True if a process was asked to stop before."""
    from tqdm import tqdm

    from nas.search_step import batches, bilevel_step, read_steps, rests
    from net.settings import relaxation
    from training.optim import set_learning_rates

    config, progress, steps = search.config, search.progress, search.halves.steps
    search.network.set_relaxation(*relaxation(config.architect, progress.epoch, config.epochs))
    search.network.train()
    title = f"epoch {progress.epoch + 1}/{config.epochs}" + (", alphas rest" if rests(search) else "")
    bar = tqdm(
        search.session.lockstep(batches(search)), title, steps, initial=progress.batch, unit="step",
        disable=None if search.processes.first else True,
    )  # fmt: skip
    for training, validation in bar:
        factor = set_learning_rates(search.optimizer, config.optim, progress, steps, config.epochs)
        values = bilevel_step(search, training, validation)
        progress.batch, progress.step = progress.batch + 1, progress.step + 1
        if progress.step % LOG_EVERY == 0:
            values = values or read_steps(search)
            with search.processes.agreeing():
                search.log.scalars(progress.step, {**values, "rate_factor": factor, "epoch": progress.epoch + 1})
        if values:
            bar.set_postfix({key: f"{value:.3f}" for key, value in values.items() if key.startswith("loss")})
        if search.session.after_step():
            return True
    return False


def finish_epoch(search: Search) -> None:
    """Measures the epoch, draws it, warns of a collapse, moves on to the next epoch and saves."""
    from nas.search_report import record_epoch, report_epoch

    progress = search.progress
    record = record_epoch(search)
    search.history.append(record)
    progress.epoch, progress.batch, progress.weight_loss, progress.alpha_loss = progress.epoch + 1, 0, 0.0, 0.0
    report_epoch(search, record)
    search.session.save()


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
