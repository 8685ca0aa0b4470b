"""Operators that one bilevel search step launches on CUDA, counted without a GPU: edges one by one and joined.

    python benchmarks/operators.py                                      the search of configs/search_resnet50.yaml
    python benchmarks/operators.py --config configs/search_lite.yaml    another search
    python benchmarks/operators.py --update-docs                        write the committed table

The step of search.py runs once on a fake CUDA device (`fake_cuda.py`): shapes and types without numbers. Every operator
that PyTorch dispatches with a tensor of the device counts. A view computes nothing and launches nothing, so views stand
apart. Last line: JSON.
"""

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import python_autograd
from benchmarks.fake_cuda import CUDA, VIEWS, Record, fake_cuda
from benchmarks.tables import UPDATE_HELP, table_folder
from data.datasets import Batch
from evaluation.tables.writer import Table, markdown
from nas import search_state
from nas.halves import Halves
from nas.search_state import Search
from nas.search_step import bilevel_step
from nas.settings import SearchConfig
from net.supernet import build_supernet
from settings.parser import parse
from training.processes import Processes
from training.session import Session
from utils.errors import exit_on_user_error
from utils.files import replace_text

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "search_resnet50.yaml"
Parts = dict[str, Counter[str]]


def main() -> int:
    """Counts both ways of a step and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=CONFIG, help="of search.py")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args()
    config: SearchConfig = parse(SearchConfig, "", ["--config", str(options.config)])
    counts = count(config)
    path = table_folder(options.update_docs) / "operators.md"
    replace_text(path, report(config, options.config.name, counts))
    print(path.read_text(encoding="utf-8"))
    print(json.dumps({"table": str(path), **{name: computing(parts) for name, parts in counts.items()}}))
    return 0


def count(config: SearchConfig) -> dict[str, Parts]:
    """Operators of one bilevel step by part, for each way to compute the edges.

    Args:
        config: of the search; its precision is bf16, or fp32 for the second order.
    """
    network = build_supernet(config.space, None, frozen_norm=True)  # outside: a fake module can't be moved again
    counts: dict[str, Parts] = {}
    with (
        fake_cuda() as record,
        patch.object(search_state, "build_supernet", return_value=network),
        patch.object(search_state, "multiply_accumulates", return_value=1.0),  # builds modules as well
    ):
        search = fake_search(config)
        half = make_batch(config.batch, config.data.size)
        for name, joined in (("one by one", False), ("joined", True)):
            search.network.joined = joined
            with by_part(record, search) as counts[name]:
                bilevel_step(search, half, half)
    return counts


def fake_search(config: SearchConfig) -> Search:
    """The search as search.py builds it on CUDA, with random weights, after its first step."""
    session = cast(Session, SimpleNamespace(saved={}))  # as when it resumes: no file of weights is read
    search = search_state.build(config, Processes(0, 1, CUDA), session, cast(Halves, SimpleNamespace(steps=10)))
    search.network.set_relaxation(config.architect.temperature[0], config.architect.auxiliary)
    search.network.train()
    search = replace(search, precision="fp32" if config.architect.order == "second" else "bf16")
    half = make_batch(2, 64)
    bilevel_step(search, half, half)  # the optimizers allocate their state
    return search


def make_batch(images: int, side: int) -> Batch:
    """Noise on the CPU, as a loader gives it."""
    image = torch.randn(images, side, side, 3).permute(0, 3, 1, 2)
    return Batch(image, (torch.rand(images, 1, side, side) > 0.5).float(), torch.arange(images))


@contextlib.contextmanager
def by_part(record: Record, search: Search) -> Iterator[Parts]:
    """Inside, operators are counted by part: `alphas` or `weights`, then forward, backward or the rest."""
    parts: Parts = {}
    owner = ["weights"]

    def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            before = record.operators
            record.operators = parts.setdefault(f"{owner[-1]}: {name}", Counter())
            try:
                return function(*arguments, **options)
            finally:
                record.operators = before

        return counted

    def alphas_step(*arguments: Any) -> Any:
        owner.append("alphas")
        try:
            return step(*arguments)
        finally:
            owner.pop()

    step = within("clipping and optimizer", search.architect.step)
    rest, record.operators = record.operators, parts.setdefault("weights: clipping and optimizer", Counter())
    with (
        patch.object(Search, "loss", within("forward", Search.loss)),
        patch.object(torch.autograd, "grad", within("backward", python_autograd.grad)),
        patch.object(torch.Tensor, "backward", within("backward", python_autograd.backward)),
        patch.object(search.architect, "step", alphas_step),
    ):
        yield parts
    record.operators = rest


def computing(parts: Parts) -> int:
    """Operators that compute something, of all parts."""
    return sum(_computing(counted) for counted in parts.values())


def _computing(counted: Counter[str]) -> int:
    return sum(times for name, times in counted.items() if name not in VIEWS)


def report(config: SearchConfig, name: str, counts: dict[str, Parts]) -> str:
    """The table as Markdown."""
    order = sorted(next(iter(counts.values())))
    rows = [[part, *_cells([parts[part] for parts in counts.values()])] for part in order]
    rows.append(["all", *_cells([sum(parts.values(), Counter()) for parts in counts.values()])])
    heads = ["part", *(f"{way}{what}" for way in counts for what in ("", ", views"))]
    space = config.space
    return (
        f"# Operators of a bilevel search step\n\n"
        f"`python benchmarks/operators.py --update-docs`; fake CUDA device: nothing was run on a GPU and no time was "
        f"measured; PyTorch {torch.__version__}; {name}: {space.encoder}, {space.channels} channels, "
        f"{len(space.operations)} operations, {config.data.size} pixels, batch {config.batch}, "
        f"{config.architect.order} order.\n\n"
        f"An operator is what PyTorch dispatches with a tensor on the device. Views launch nothing and stand apart. "
        f"One by one: every edge by itself, as on a CPU. Joined: what search.py does on CUDA (`net/joined.py`).\n\n"
        f"{markdown(Table(heads, rows))}\n"
    )


def _cells(counted: list[Counter[str]]) -> list[str]:
    return [f"{number:,}" for one in counted for number in (_computing(one), one.total() - _computing(one))]


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
