"""The least time that this processor needs for the operations of a network, measured.

    python benchmarks/limits.py                                inference of ResNet-50 and lite, every precision
    python benchmarks/limits.py --networks lite --rounds 9
    python benchmarks/limits.py --update-docs                  writes benchmarks/limits.md

Each convolution and matrix product of the folded network runs alone, at its own shape and precision, in every layout
and library that the engines use; the fastest counts:
    torch        contiguous, channels last, and channels last with weights in oneDNN's layout
    openvino     one image, the time of the convolution's own node
The rest (resizing, pooling, concatenation) counts as the bytes that it moves, at the speed of a copy of as many bytes.
Additions and activations after a convolution count nothing: all engines fuse them. The cores are used in two ways: all
of them for one call, or a call on each at the same time. The faster one counts, for each operation. The sum is the
limit. An operation that runs alone finds its data in the caches, so a whole network stays a little below its limit.
The last line is JSON: milliseconds an image, by network and precision.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.limit_timers import measure
from benchmarks.networks import PUBLISHED, PUBLISHED_SIZE
from benchmarks.tables import UPDATE_HELP, table_folder
from benchmarks.workload import Convolution, Product, Traffic, Workload, gmac, record
from evaluation.tables.writer import Table, markdown
from inference.folding.network import fold
from inference.weights import load_network, shipped
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from settings.parser import arguments
from utils.device import banner
from utils.errors import exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

PRECISIONS = ("fp32", "bf16", "int8")
BATCH = 8


@dataclass(frozen=True)
class Limit:
    """The least seconds for a workload.

    Args:
        convolutions, products, rest: seconds of each kind of operation, fastest way each.
        ways: seconds by the way that was fastest, convolutions and products only.
    """

    convolutions: float
    products: float
    rest: float
    ways: dict[str, float]

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.convolutions + self.products + self.rest


def limit_of(workload: Workload, precision: str, rounds: int = 5) -> Limit | None:
    """Measures every operation of a workload alone and adds up the fastest ways.

    Args:
        workload: see `benchmarks.workload.record`.
        precision: fp32, bf16 or int8; `Traffic` holds bytes, so it is counted as it was recorded.
        rounds: calls of an operation and way, of which the median counts.

    Returns:
        The limit; None if no library here computes in that precision.
    """
    timed = measure(list(workload), precision, rounds)
    sums: dict[type, float] = {Convolution: 0.0, Product: 0.0, Traffic: 0.0}
    ways: dict[str, float] = {}
    for operation, count in workload.items():
        if not timed[operation]:
            return None
        way, seconds = min(timed[operation].items(), key=lambda item: item[1])
        sums[type(operation)] += count * seconds
        if not isinstance(operation, Traffic):
            ways[way] = ways.get(way, 0.0) + count * seconds
    return Limit(sums[Convolution], sums[Product], sums[Traffic], ways)


def inference_workload(name: str) -> tuple[Workload, int]:
    """Operations of a batch of `BATCH` images through a folded network, and the side of the images in pixels."""
    if name in shipped():
        loaded = load_network(name)
        network, size = loaded.network, loaded.size
    else:
        network, size = build_network(NetworkConfig(name, name)), PUBLISHED_SIZE
    folded = fold(network.eval(), size)
    with torch.no_grad():  # in inference mode PyTorch does not break a call down to aten.convolution
        return record(lambda: folded(torch.zeros(BATCH, 3, size, size)), fused=True), size


def scaled(workload: Workload, precision: str) -> Workload:
    """The same operations with the bytes of a shorter precision: half for bf16, a quarter for int8."""
    parts = {"fp32": 1, "bf16": 2, "int8": 4}[precision]
    result: Workload = type(workload)()
    for operation, count in workload.items():
        result[Traffic(operation.bytes // parts) if isinstance(operation, Traffic) else operation] += count
    return result


def main(words: Sequence[str] | None = None) -> int:
    """Measures the limits of inference and writes the table."""
    options = parse(words)
    rows: list[list[str]] = []
    figures: dict[str, dict[str, float]] = {}
    for name in options.networks:
        workload, size = inference_workload(name)
        for precision in PRECISIONS:
            limit = limit_of(scaled(workload, precision), precision, options.rounds)
            if limit is None:
                continue
            milliseconds = 1000 * limit.seconds / BATCH
            figures.setdefault(name, {})[precision] = round(milliseconds, 3)
            rows.append(row_of(name, size, precision, limit, workload))
    heads = [
        "network", "pixels", "precision", "GMAC", "convolutions, ms", "rest, ms", "limit, ms", "images/s",
        "fastest ways",
    ]  # fmt: skip
    lines = [
        "# The limit of this processor",
        "",
        f"`python benchmarks/limits.py`; {banner(torch.device('cpu'), 'several')} | {usable_cores()} cores; "
        f"milliseconds an image, {options.rounds} rounds. Each operation of the folded network alone, the fastest of "
        "all ways; the docstring says which. The last column gives the share of the convolutions' time by way.",
        "",
        markdown(Table(heads, rows, 3)),
    ]
    replace_text(table_folder(options.update_docs) / "limits.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(figures))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "limits.py")
    names = [*PUBLISHED, *shipped()]
    parser.add_argument("--networks", nargs="+", choices=names, default=["resnet50", "lite"])
    parser.add_argument("--rounds", type=int, default=5, help="calls of an operation and way; the median counts")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    return parser.parse_args(words)


def row_of(name: str, size: int, precision: str, limit: Limit, workload: Workload) -> list[str]:
    """One line of the table."""
    per_image = 1000 / BATCH
    shares = sorted(limit.ways.items(), key=lambda item: -item[1])
    known = sum(limit.ways.values())
    return [
        name, str(size), precision, f"{gmac(workload) / BATCH:.2f}", f"{per_image * limit.convolutions:.2f}",
        f"{per_image * (limit.rest + limit.products):.2f}", f"{per_image * limit.seconds:.2f}",
        f"{BATCH / limit.seconds:.1f}", ", ".join(f"{way} {100 * part / known:.0f} %" for way, part in shares[:3]),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
