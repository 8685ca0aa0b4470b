"""Images a second and peak memory of a training step: ours against the loop that a reader would write first.

    python benchmarks/training.py --data DUTS-TR                     lite and published ResNet-50 network
    python benchmarks/training.py --data DUTS-TR --networks lite     one of them

Variants, each in a process of its own, alternated:
    float32         contiguous, float32, the loss's windows as its formula reads, PyTorch's own SGD: the plain loop
    channels last   the same in channels last
    bf16            bfloat16 autocast, channels last: what the PyTorch documentation advises
    ours            `net.cpu_kernels.accelerate`, `inference.memory.keep_memory`, the fused SGD, and the precision that
                    `--precision auto` measures to be the faster: what train.py does
On a CPU without bfloat16 units there is no bf16. The loss and what the optimizer computes are the same in all. One more
step of each goes through PyTorch's profiler.

The limit is measured in the same run, see benchmarks/limits.py. It takes every convolution of a step
and its gradients alone, in our precision. The bytes that everything else moves count at the speed of a copy, each
operation apart. Share of the limit: its time over that of our step.

Then the first batches of a real epoch of the ResNet-50 network run, read and augmented by two worker processes. The
report states the share of that time in which the loop waited for its next batch, the start of the workers included.
Last line: JSON, by network `over_plain`, images/s over those of the fastest plain loop, `share` of the limit and
`memory_mib`; and `data_wait`, the share of the real epoch that waited.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, mode
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.limits import Limit, limit_of
from benchmarks.tables import UPDATE_HELP, table_folder
from benchmarks.workload import Workload, record
from data.datasets import EpochBatches, SaliencyDataset, make_loader
from data.layouts import find_pairs
from data.synthetic import write_scenes
from data.transforms import TrainTransform
from evaluation.tables.writer import Table, markdown
from inference.memory import keep_memory
from net import losses
from net.auto_msfnet import AutoMSFNet, build_network
from net.cpu_kernels import accelerate
from net.losses import saliency_loss
from net.settings import LossConfig, NetworkConfig
from training.optim import build_optimizer
from training.precision import candidates, fastest, trial
from training.settings import OptimConfig
from training.throughput import peak_memory
from utils.device import autocast, banner
from utils.files import replace_text

PLAIN = {  # precision and layout
    "float32": ("fp32", torch.contiguous_format),
    "channels last": ("fp32", torch.channels_last),
    "bf16": ("bf16", torch.channels_last),
}
VARIANTS = (*PLAIN, "ours")
NETWORKS = {  # network, batch, side in pixels
    "lite": (NetworkConfig("efficientnet_lite0", "resnet50", 64), 16, 224),
    "resnet50": (NetworkConfig("resnet50", "resnet50", 128), 8, 256),
}
CPU = torch.device("cpu")
WORKERS = 2
OPERATORS = 8  # in the tables of operators
COLUMNS = (
    "network", "batch", "pixels", "variant", "turns", "images/s", "against fastest plain", "peak memory, MiB"
)  # fmt: skip
Turns = list[dict[str, Any]]
Results = dict[str, dict[str, Turns]]


class Step:
    """One training step of one variant, the same code for all of them but for what the variant names.

    Args:
        network: a key of `NETWORKS`.
        variant: one of `VARIANTS`.
    """

    def __init__(self, network: str, variant: str) -> None:
        self.config, self.batch, self.side = NETWORKS[network]
        self.precision, self.layout = PLAIN.get(variant, ("auto", torch.channels_last))
        if variant == "ours":
            keep_memory()
        if variant == "float32":
            losses._dilate = plain_dilate
        torch.manual_seed(0)
        self.network: AutoMSFNet = build_network(self.config).to(memory_format=self.layout).train()  # pyright: ignore[reportCallIssue]
        if variant == "ours":
            accelerate(self.network)
            self.precision = fastest(trial(self.network, self.loss, self.batch, self.side, CPU))
        self.optimizer = build_optimizer(self.network, OptimConfig())
        if variant != "ours":
            self.optimizer = torch.optim.SGD(
                self.network.parameters(), lr=OptimConfig().lr, momentum=0.9, weight_decay=5e-4, nesterov=True
            )

    def __call__(self, image: Tensor, mask: Tensor) -> None:
        """Forward, loss, backward, update: image (B, 3, S, S), mask (B, 1, S, S)."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(image, mask, self.precision).backward()
        self.optimizer.step()

    def loss(self, image: Tensor, mask: Tensor, precision: str) -> Tensor:
        """Loss of a batch, with the network in that precision."""
        with autocast(CPU, precision):
            logits = self.network(image.to(memory_format=self.layout))
        return saliency_loss(logits, mask, LossConfig()).total


def plain_dilate(x: Tensor, width: int) -> Tensor:
    """What net.losses computes in another layout: the maximum over a square window, (B, 1, H, W) -> the same."""
    return F.max_pool2d(x, width, stride=1, padding=width // 2)


def main() -> int:
    """Runs every variant of every network in turn, then the part of an epoch, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--data", type=Path, help="images and masks of the real epoch; generated ones without it")
    parser.add_argument("--rounds", type=int, default=3, help="how often the variants take turns")
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn, after two that do not count")
    parser.add_argument("--batches", type=int, default=20, help="how far to go into the real epoch")
    parser.add_argument(
        "--turns", type=Path, help="JSON file that gathers the turns of several calls, to report together"
    )
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "VARIANT"), help=argparse.SUPPRESS)
    parser.add_argument("--epoch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args()
    if options.one:
        network, variant = options.one
        print(json.dumps(measure(network, variant, options.steps)))
    elif options.epoch:
        print(json.dumps(measure_epoch(options.data, options.batches)))
    else:
        earlier, epoch = earlier_turns(options.turns)
        epoch = wait_for_data(options) if options.batches else epoch
        results = earlier
        for results in take_turns(options, earlier):
            if options.turns is not None:
                replace_text(options.turns, json.dumps({"turns": results, "epoch": epoch}))
        limits = {name: limit_of_step(name, precision_of(turns["ours"])) for name, turns in results.items()}
        report(results, limits, epoch, table_folder(options.update_docs) / "training.md")
    return 0


def precision_of(turns: Turns) -> str:
    """The precision of most turns."""
    return mode(turn["precision"] for turn in turns)


def limit_of_step(network: str, precision: str) -> Limit:
    """The least time for one step of a network in a precision."""
    limit = limit_of(step_workload(network, precision), precision)
    assert limit is not None  # PyTorch computes every operation of a step
    return limit


def step_workload(network: str, precision: str) -> Workload:
    """Operations of one plain step in a precision: forward, loss, backward, update."""
    step = Step(network, "bf16" if precision == "bf16" else "channels last")
    image, mask = noise(step)
    return record(lambda: step(image, mask), fused=False)


def noise(step: Step) -> tuple[Tensor, Tensor]:
    """A batch for a step: image (B, 3, S, S) and mask (B, 1, S, S)."""
    image = torch.randn(step.batch, 3, step.side, step.side).to(memory_format=step.layout)
    return image, (torch.rand(step.batch, 1, step.side, step.side) > 0.7).float()


def earlier_turns(path: Path | None) -> tuple[Results, dict[str, float]]:
    """What earlier calls measured and left in a file."""
    if path is None or not path.is_file():
        return {}, {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return record["turns"], record["epoch"]


def take_turns(options: argparse.Namespace, results: Results) -> Iterator[Results]:
    """Measures every variant of every network once a round, each in a process of its own; the results after each."""
    for _ in range(options.rounds):
        for network in options.networks:
            turns = {
                variant: in_own_process("--one", network, variant, "--steps", str(options.steps))
                for variant in VARIANTS
                if variant != "bf16" or "bf16" in candidates(CPU)
            }
            for variant, measured in turns.items():  # all variants or none, so that they stay alternated
                results.setdefault(network, {}).setdefault(variant, []).append(measured)
            yield results


def in_own_process(*arguments: str) -> dict[str, Any]:
    """Runs this file with these arguments and returns the JSON that it printed last."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(network: str, variant: str, steps: int) -> dict[str, Any]:
    """Median seconds of a step, this process's peak memory in MiB, the precision, and seconds by operator."""
    step = Step(network, variant)
    image, mask = noise(step)
    seconds: list[float] = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        step(image, mask)
        seconds.append(time.perf_counter() - begin)
    memory = peak_memory(CPU)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step(image, mask)
    operators = {f"op {one.key}": one.self_cpu_time_total / 1e6 for one in profiled.key_averages()}
    return {"seconds": median(seconds[2:]), "memory_mib": memory, "precision": step.precision, **operators}


def wait_for_data(options: argparse.Namespace) -> dict[str, float]:
    """The part of a real epoch, on the data that was named or on generated scenes of DUTS-TR's usual size."""
    with tempfile.TemporaryDirectory() as folder:
        root = options.data or write_scenes(folder, count=8 * options.batches, size=400)
        return in_own_process("--epoch", "--data", str(root), "--batches", str(options.batches))


def measure_epoch(root: Path, count: int) -> dict[str, float]:
    """Seconds of the first batches of an epoch of the ResNet-50 network, and those of them spent waiting for data."""
    step = Step("resnet50", "ours")
    pairs = find_pairs(root)
    batches = EpochBatches(len(pairs), step.batch, [step.side], drop_last=True)
    loader = make_loader(SaliencyDataset(pairs, TrainTransform()), batches, WORKERS)
    begin, waited, done = time.perf_counter(), 0.0, 0
    reader = iter(loader)
    while done < min(count, batches.per_epoch):
        asked = time.perf_counter()
        batch = next(reader)
        waited += time.perf_counter() - asked
        step(batch.image, batch.mask)
        done += 1
    return {"seconds": time.perf_counter() - begin, "waited": waited, "batches": done, "images": len(pairs)}


def report(results: Results, limits: Mapping[str, Limit], epoch: dict[str, float], table: Path) -> None:
    """Prints and writes the table; the last line is JSON."""
    lines = [
        "# Training step",
        "",
        f"`python benchmarks/training.py`; {banner(CPU, 'several')}; medians of alternated turns, their spread in "
        "brackets.",
        "",
        markdown(Table(COLUMNS, [row for each in results.items() for row in rows_of(*each)], left=4)),
    ]
    figures: dict[str, float] = {}
    for network, variants in results.items():
        ours, plain = fastest_of(network, variants)
        share = limits[network].seconds * ours / NETWORKS[network][1]
        figures[f"{network}_over_plain"] = round(ours / plain, 3)
        figures[f"{network}_share"] = round(share, 3)
        figures[f"{network}_memory_mib"] = round(memory_of(variants["ours"]))
        lines += operators_of(network, variants) + limit_lines(network, variants, limits[network], share)
    if epoch:
        figures["data_wait"] = round(epoch["waited"] / epoch["seconds"], 4)
        lines += [
            "",
            f"Of the first {epoch['batches']:.0f} batches of an epoch of the ResNet-50 network over "
            f"{epoch['images']:.0f} images with {WORKERS} workers ({epoch['seconds']:.1f} s, their start included) "
            f"the loop waited {epoch['waited']:.2f} s for data: {100 * figures['data_wait']:.1f} %.",
        ]
    replace_text(table, "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(figures))


def fastest_of(network: str, variants: dict[str, Turns]) -> tuple[float, float]:
    """Images/s of ours, and of the fastest plain loop; medians."""
    speeds = {variant: median(speeds_of(network, turns)) for variant, turns in variants.items()}
    return speeds["ours"], max(speeds[variant] for variant in PLAIN if variant in speeds)


def rows_of(network: str, variants: dict[str, Turns]) -> list[list[str]]:
    """Cells of the table for one network."""
    _, batch, side = NETWORKS[network]
    _, plain = fastest_of(network, variants)
    rows: list[list[str]] = []
    for variant, turns in variants.items():
        speeds = speeds_of(network, turns)
        label = f"ours, {precision_of(turns)}" if variant == "ours" else variant
        rows.append([
            network, str(batch), str(side), label, str(len(speeds)),
            f"{median(speeds):.2f} ({min(speeds):.2f} to {max(speeds):.2f})", f"{median(speeds) / plain:.2f} x",
            f"{memory_of(turns):.0f}",
        ])  # fmt: skip
    return rows


def limit_lines(network: str, variants: dict[str, Turns], limit: Limit, share: float) -> list[str]:
    """What the processor needs at the least for a step, and the share of it that ours reaches."""
    ours = median(turn["seconds"] for turn in variants["ours"])
    return [
        "",
        f"The limit of a step of {network} in {precision_of(variants['ours'])}: {1000 * limit.convolutions:.0f} ms of "
        f"convolutions and their gradients, {1000 * (limit.products + limit.rest):.0f} ms of everything else, together "
        f"{1000 * limit.seconds:.0f} ms. Our step takes {1000 * ours:.0f} ms: {100 * share:.0f} % of the limit.",
    ]


def operators_of(network: str, variants: dict[str, Turns]) -> list[str]:
    """A table of the operators that take most of a step, by the sum over the variants."""
    spent = {variant: seconds_of_operators(turns) for variant, turns in variants.items()}
    names = set().union(*spent.values())
    largest = sorted(names, key=lambda name: -sum(times.get(name, 0.0) for times in spent.values()))[:OPERATORS]
    rows = [
        [f"`{name.removeprefix('op ')}`", *(f"{1000 * times.get(name, 0.0):.0f}" for times in spent.values())]
        for name in largest
    ]
    rows.append(["all", *(f"{1000 * sum(times.values()):.0f}" for times in spent.values())])
    table = markdown(Table(["operator", *spent], rows))
    return ["", f"Where a step of {network} spends its time, in ms:", "", *table.splitlines()]


def seconds_of_operators(turns: Turns) -> dict[str, float]:
    """Median over the turns of what each operator took."""
    names = {name for turn in turns for name in turn if name.startswith("op ")}
    return {name: median(turn.get(name, 0.0) for turn in turns) for name in names}


def speeds_of(network: str, turns: Turns) -> list[float]:
    """Images/s of each turn."""
    return [NETWORKS[network][1] / turn["seconds"] for turn in turns]


def memory_of(turns: Turns) -> float:
    """Peak memory in MiB, median of the turns."""
    return median(turn["memory_mib"] for turn in turns)


if __name__ == "__main__":
    sys.exit(main())
