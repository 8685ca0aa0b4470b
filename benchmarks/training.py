"""Images a second and peak memory of a training step: ours against the loop that a reader would write first.

    python benchmarks/training.py --data DUTS-TR                     lite and published ResNet-50 network
    python benchmarks/training.py --data DUTS-TR --networks lite     one of them

Variants, each in a process of its own, alternated:
    float32   contiguous, float32, the loss's windows as its formula reads, PyTorch's own SGD: the plain loop
    bf16      bfloat16 autocast, channels last: what the PyTorch documentation advises
    ours      bf16 as well, `net.cpu_kernels.accelerate`, `utils.device.keep_memory`, the fused SGD: what train.py does
Both bf16 variants need a CPU with bfloat16 units; without them they run in float32, as the table states.
The loss and what the optimizer computes are the same in all. One more step of each goes through PyTorch's profiler.
The report also gives a bound of the processor: the multiply-accumulates of a step at the rate of a single convolution.

Then the first batches of a real epoch of the ResNet-50 network run, read and augmented by two worker processes. The
report states the share of that time in which the loop waited for its next batch, the start of the workers included.
Last line: JSON, `speedup` of images/s over the plain loop and `data_wait`, that share, both of the ResNet-50 network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from net.settings import LossConfig, NetworkConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rates import convolution_rate, work_of
from benchmarks.tables import UPDATE_HELP, table_folder
from data.datasets import EpochBatches, SaliencyDataset, make_loader
from data.layouts import find_pairs
from data.synthetic import write_scenes
from data.transforms import TrainTransform
from evaluation.tables.writer import Table, markdown
from net import losses
from net.auto_msfnet import AutoMSFNet, build_network
from net.cpu_kernels import accelerate
from net.losses import saliency_loss
from training.optim import build_optimizer
from training.settings import OptimConfig
from training.throughput import peak_memory
from utils.device import autocast, banner, choose_precision, keep_memory
from utils.files import replace_text

VARIANTS = ("float32", "bf16", "ours")
NETWORKS = {  # network, batch, side in pixels
    "lite": (NetworkConfig("efficientnet_lite0", "resnet50", 64), 16, 224),
    "resnet50": (NetworkConfig("resnet50", "resnet50", 128), 8, 256),
}
CPU = torch.device("cpu")
BOUNDED = "resnet50"  # PyTorch counts the backward pass of lite's depthwise convolutions as if they were full ones
WORKERS = 2
OPERATORS = 8  # in the tables of operators
COLUMNS = (
    "network", "batch", "pixels", "variant", "turns", "images/s", "against float32", "against bf16", "peak memory, MiB"
)  # fmt: skip
Turns = list[dict[str, float]]
Results = dict[str, dict[str, Turns]]


class Step:
    """One training step of one variant, the same code for all of them but for what the variant names.

    Args:
        network: a key of `NETWORKS`.
        variant: one of `VARIANTS`.
    """

    def __init__(self, network: str, variant: str) -> None:
        self.config, self.batch, self.side = NETWORKS[network]
        self.precision = "fp32" if variant == "float32" else choose_precision("auto", CPU)
        self.layout = torch.contiguous_format if variant == "float32" else torch.channels_last
        if variant == "ours":
            keep_memory()
        if variant == "float32":
            losses._dilate = plain_dilate
        torch.manual_seed(0)
        self.network: AutoMSFNet = build_network(self.config).to(memory_format=self.layout).train()  # pyright: ignore[reportCallIssue]
        if variant == "ours":
            accelerate(self.network)
        self.optimizer = build_optimizer(self.network, OptimConfig())
        if variant != "ours":
            self.optimizer = torch.optim.SGD(
                self.network.parameters(), lr=OptimConfig().lr, momentum=0.9, weight_decay=5e-4, nesterov=True
            )

    def __call__(self, image: Tensor, mask: Tensor) -> None:
        """Forward, loss, backward, update: image (B, 3, S, S), mask (B, 1, S, S)."""
        image = image.to(memory_format=self.layout)
        with autocast(CPU, self.precision):
            logits = self.network(image)
        loss = saliency_loss(logits, mask, LossConfig()).total
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


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
        report(results, epoch, table_folder(options.update_docs) / "training.md")
    return 0


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
            command = ("--one", network, "{}", "--steps", str(options.steps))
            turns = {variant: in_own_process(*(part.format(variant) for part in command)) for variant in VARIANTS}
            for variant, measured in turns.items():  # all variants or none, so that they stay alternated
                results.setdefault(network, {}).setdefault(variant, []).append(measured)
            yield results


def in_own_process(*arguments: str) -> dict[str, float]:
    """Runs this file with these arguments and returns the JSON that it printed last."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(network: str, variant: str, steps: int) -> dict[str, float]:
    """Median seconds of a step and this process's peak memory in MiB."""
    step = Step(network, variant)
    image = torch.randn(step.batch, 3, step.side, step.side).to(memory_format=step.layout)
    mask = (torch.rand(step.batch, 1, step.side, step.side) > 0.7).float()
    seconds: list[float] = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        step(image, mask)
        seconds.append(time.perf_counter() - begin)
    memory = peak_memory(CPU)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step(image, mask)
    operators = {f"op {one.key}": one.self_cpu_time_total / 1e6 for one in profiled.key_averages()}
    return {"seconds": median(seconds[2:]), "memory_mib": memory, **operators}


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


def report(results: Results, epoch: dict[str, float], table: Path) -> None:
    """Prints and writes the table; the last line is JSON."""
    precision = choose_precision("auto", CPU)
    lines = [
        "# Training step",
        "",
        f"`python benchmarks/training.py`; {banner(CPU, precision)}; medians of alternated turns, their spread in "
        f"brackets. The bf16 variants ran in {precision}.",
        "",
        markdown(Table(COLUMNS, [row for each in results.items() for row in rows_of(*each)], left=4)),
        *(line for network, variants in results.items() for line in operators_of(network, variants)),
        *(line for network, variants in results.items() if network == BOUNDED for line in bound_of(network, variants)),
    ]
    record: dict[str, float] = {}
    for network, variants in results.items():
        speeds = {variant: median(speeds_of(network, turns)) for variant, turns in variants.items()}
        prefix = "" if network == "resnet50" else f"{network}_"
        record[f"{prefix}speedup"] = round(speeds["ours"] / speeds["float32"], 3)
        record[f"{prefix}over_bf16"] = round(speeds["ours"] / speeds["bf16"], 3)
        record[f"{prefix}memory_mib"] = round(memory_of(variants["ours"]))
    if epoch:
        record["data_wait"] = round(epoch["waited"] / epoch["seconds"], 4)
        lines += [
            "",
            f"Of the first {epoch['batches']:.0f} batches of an epoch of the ResNet-50 network over "
            f"{epoch['images']:.0f} images with {WORKERS} workers ({epoch['seconds']:.1f} s, their start included) "
            f"the loop waited {epoch['waited']:.2f} s for data: {100 * record['data_wait']:.1f} %.",
        ]
    replace_text(table, "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(record))


def rows_of(network: str, variants: dict[str, Turns]) -> list[list[str]]:
    """Cells of the table for one network."""
    _, batch, side = NETWORKS[network]
    speeds = {variant: speeds_of(network, turns) for variant, turns in variants.items()}
    plain, bf16 = median(speeds["float32"]), median(speeds["bf16"])
    return [
        [
            network, str(batch), str(side), variant, str(len(values)),
            f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})", f"{median(values) / plain:.2f} x",
            f"{median(values) / bf16:.2f} x", f"{memory_of(variants[variant]):.0f}",
        ]
        for variant, values in speeds.items()
    ]  # fmt: skip


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


def bound_of(network: str, variants: dict[str, Turns]) -> list[str]:
    """Lines: how fast a step could be if convolutions were all of it and ran at the rate of a lone one."""
    step = Step(network, "bf16")
    image, mask = torch.randn(1, 3, step.side, step.side), torch.zeros(1, 1, step.side, step.side)
    step.network.eval()  # BatchNorm has too little of one image
    work = work_of(lambda: step(image, mask))
    plain, short = convolution_rate(step.batch, plain=True), convolution_rate(step.batch, plain=False)
    speed = median(speeds_of(network, variants["float32"]))
    return [
        "",
        f"A step of {network} needs {work:.1f} billion multiply-accumulates an image. A single 3x3 convolution of 128 "
        f"channels on 64 x 64 pixels runs at {plain:.0f} billion a second in the plain variant's precision and layout, "
        f"and at {short:.0f} in ours. At that rate the multiply-accumulates take {1000 * work / plain:.0f} and "
        f"{1000 * work / short:.0f} ms: a step of nothing else would be {short / work / speed:.2f} x as fast as the "
        f"plain one measured here.",
    ]


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
