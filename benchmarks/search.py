"""Seconds and peak memory of one bilevel search step: ours against the plain DARTS step of the same space.

    python benchmarks/search.py                  ResNet-50, 128 channels, 256 pixels, batch 2
    python benchmarks/search.py --rounds 5       more turns
    python benchmarks/search.py --profile        where the time of a step goes, to search_profile.md
    python benchmarks/search.py --update-docs    write the committed tables instead of those in runs/benchmarks/

A step is a batch for the alphas and a batch for the weights. Variants, each in a process of its own, alternated:
    plain      float32 and contiguous, every mixture computed operation by operation, both backward passes through
               everything: the public DARTS code, first order
    plain bf16 the same in bfloat16 and channels last, where the CPU has bfloat16 units
    exact      the step of search.py: the same sum in fewer passes (net.mixture), the alphas' step without the gradients
               that it does not need (net.architect), channels last, in the precision that search.py measures to be the
               fastest
    partial4   as exact, with a quarter of the channels through the candidates (PC-DARTS, K = 4)
All have the same loss, optimizers and clipping of both gradients. The limit is measured in the same run, see
benchmarks/limits.py: every convolution of an exact step alone, and the bytes that everything else moves. Last line:
JSON, `exact_share` of the limit, `exact_over_plain`, speed over that of the fastest plain step, `exact_memory`, peak
memory over that of the plain float32 step, and the same of partial4.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.limits import Limit, limit_of
from benchmarks.rates import convolution_rate, work_of
from benchmarks.rounds import alternate
from benchmarks.tables import UPDATE_HELP, table_folder
from benchmarks.workload import record
from evaluation.tables.writer import Table, markdown
from inference.memory import keep_memory
from nas.settings import SearchConfig
from net.architect import Architect, only
from net.losses import saliency_loss
from net.mixture import MixedOp
from net.settings import ArchitectConfig, SpaceConfig
from net.supernet import SuperNet, build_supernet
from training.optim import build_optimizer
from training.precision import Name, candidates, describe, fastest, trial
from training.throughput import peak_memory
from utils.device import autocast, banner
from utils.files import replace_text

STEPS = {"plain": 1, "plain bf16": 1, "exact": 2, "partial4": 3}  # measured in a turn, after one that does not count
PLAIN: dict[str, Name] = {"plain": "fp32", "plain bf16": "bf16"}
CPU = torch.device("cpu")
BATCH, SIDE = 2, 256
ROWS = 12  # kernels in a profile
Batch = tuple[Tensor, Tensor]


class PlainMixture(MixedOp):
    """The definition: every operation on its own, then the sum."""

    def forward(self, x: Tensor) -> Tensor:
        """Weighted sum of all candidates; (B, C, H, W) -> the same."""
        return sum((w * op(x) for w, op in zip(self.weights(), self.candidates, strict=True)), torch.zeros(()))


def main() -> int:
    """Runs the variants in turn and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often the variants take turns")
    parser.add_argument("--profile", action="store_true", help="profile one step of each variant instead")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    parser.add_argument("--one", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=["fp32", "bf16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = table_folder(options.update_docs)
    if options.one:
        print(json.dumps(measure(options.one, options.precision)))
        return 0
    precision = measured_precision()
    if options.profile:
        profile_steps(precision, folder / "search_profile.md")
        return 0
    results: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants()}
    for variant in tqdm(list(results) * options.rounds, disable=None):
        command = [sys.executable, __file__, "--one", variant, "--precision", precision]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[variant].append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{variant}: {results[variant][-1]}", flush=True)
    report(results, limit_of_step(precision), precision, folder / "search.md")
    return 0


def variants() -> list[str]:
    """Those that this CPU can compute."""
    return [name for name in STEPS if name != "plain bf16" or "bf16" in candidates(CPU)]


def measured_precision() -> Name:
    """What `search.py --precision auto` takes for this supernet and batch here."""
    network, config = build_supernet(SpaceConfig()), SearchConfig()

    def loss(image: Tensor, mask: Tensor, name: Name) -> Tensor:
        with autocast(CPU, name):
            logits = network(image)
        return saliency_loss(logits, mask, config.loss).total

    timings = trial(network, loss, BATCH, SIDE, CPU)
    print(describe(timings, fastest(timings)), flush=True)
    return fastest(timings)


def limit_of_step(precision: Name) -> Limit:
    """The least time for one exact step in a precision."""
    limit = limit_of(record(prepare("exact", precision), fused=False), precision)
    assert limit is not None  # PyTorch computes every operation of a step
    return limit


def measure(variant: str, precision: Name) -> dict[str, float]:
    """Median seconds of a step, ours in a precision, and this process's peak memory in MiB."""
    step = prepare(variant, precision)
    seconds: list[float] = []
    for _ in range(STEPS[variant] + 1):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    memory = peak_memory(CPU)
    return {"seconds": median(seconds[1:]), "memory_mib": memory}


def prepare(variant: str, ours: Name) -> Callable[[], None]:
    """Builds the network and the batches of a variant, ours in a precision; what it returns takes one step."""
    plain = variant in PLAIN
    precision = PLAIN.get(variant, ours)
    if not plain:
        keep_memory()
    torch.manual_seed(0)
    network = build_supernet(SpaceConfig(partial=4 if variant == "partial4" else 1))
    if plain:
        for _, mixture in network.mixtures():
            mixture.__class__ = PlainMixture
    config = SearchConfig()
    with only(network, network.weights()):
        optimizer = build_optimizer(network, config.optim)

    def loss(batch: Batch) -> Tensor:
        with autocast(CPU, precision):
            logits = network(batch[0])
        return saliency_loss(logits, batch[1], config.loss).total

    architect = Architect(network, optimizer, ArchitectConfig(), loss)
    batches = [_batch(layout_of(variant)) for _ in range(2)]
    return lambda: (plain_step if plain else our_step)(network, optimizer, architect, batches)


def layout_of(variant: str) -> torch.memory_format:
    """How a variant's images lie in memory."""
    return torch.contiguous_format if variant == "plain" else torch.channels_last


def profile_steps(precision: Name, table: Path) -> None:
    """Writes the kernels that take the most time of a step of each variant, and what the convolutions ask for."""
    lines = [
        "# Where a search step spends its time", "",
        f"`python benchmarks/search.py --profile`; {banner(CPU, precision)}; ResNet-50, 128 channels, {SIDE} pixels, "
        f"batch {BATCH}; one step of each variant under PyTorch's profiler. Multiply-accumulates are those of "
        "convolutions and products, forward and backward, as PyTorch counts them. The rate is that of a lone 3x3 of "
        "128 channels on 64 x 64 pixels, forward, in the variant's precision and layout.",
    ]  # fmt: skip
    for variant in variants():
        lines += ["", f"## {variant}", "", *profile_of(variant, precision)]
    lines += ["", "## Convolutions joined", "", *joined(precision)]
    replace_text(table, "\n".join(lines) + "\n")
    print("\n".join(lines))


def profile_of(variant: str, precision: Name) -> list[str]:
    """Lines about one step of a variant: what it computes, at what rate, and its kernels by time."""
    step = prepare(variant, precision)
    step()
    work = work_of(step)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events) / 1e6
    convolved = sum(event.self_cpu_time_total for event in events if "convolution" in event.key) / 1e6
    rate = convolution_rate(BATCH, PLAIN.get(variant, precision), layout_of(variant))
    return [
        f"{total:.2f} s, of which convolutions take {convolved:.2f} s; {work:.0f} billion multiply-accumulates, which "
        f"take {work / rate:.2f} s at {rate:.0f} billion a second.", "",
        markdown(Table(["kernel", "calls", "seconds", "share"], [
            [event.key, str(event.count), f"{event.self_cpu_time_total / 1e6:.3f}",
             f"{event.self_cpu_time_total / 1e6 / total:.1%}"] for event in events[:ROWS]
        ])),
    ]  # fmt: skip


def joined(precision: Name) -> list[str]:
    """Lines: four 3x3 of one input one by one, and as one of four times the width."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    image = torch.randn(BATCH, 128, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    kernels = [torch.randn(128, 128, 3, 3, dtype=dtype).to(memory_format=torch.channels_last) for _ in range(4)]
    wide = torch.cat(kernels).contiguous(memory_format=torch.channels_last)
    calls = {
        "apart": lambda: [nn.functional.conv2d(image, kernel, padding=1) for kernel in kernels],
        "joined": lambda: nn.functional.conv2d(image, wide, padding=1),
    }
    with torch.inference_mode():
        seconds = alternate(calls, 20)
    apart, together = (1000 * median(seconds[name]) for name in calls)
    return [
        f"Four 3x3 of 128 channels on one input of 64 x 64 pixels, batch {BATCH}, forward: {apart:.1f} ms one by one, "
        f"{together:.1f} ms as one of 512 channels."
    ]


def our_step(
    network: SuperNet, optimizer: torch.optim.Optimizer, architect: Architect[Batch], batches: list[Batch]
) -> None:
    """One step of the alphas and one of the weights, as search.py takes them."""
    architect.step(batches[0], batches[1])
    with only(network, network.weights()):
        optimizer.zero_grad(set_to_none=True)
        architect.loss(batches[0]).backward()
    nn.utils.clip_grad_norm_(network.weights(), SearchConfig().optim.clip)
    optimizer.step()


def plain_step(
    network: SuperNet, optimizer: torch.optim.Optimizer, architect: Architect[Batch], batches: list[Batch]
) -> None:
    """The same as the public DARTS code has it: every backward pass gives every gradient."""
    architect.optimizer.zero_grad()
    architect.validation_loss(batches[1]).backward()
    nn.utils.clip_grad_norm_(network.alphas(), architect.config.clip)
    architect.optimizer.step()
    optimizer.zero_grad()
    architect.loss(batches[0]).backward()
    nn.utils.clip_grad_norm_(network.weights(), SearchConfig().optim.clip)
    optimizer.step()


def report(results: dict[str, list[dict[str, float]]], limit: Limit, precision: Name, table: Path) -> None:
    """Prints and writes the table; the last line is JSON."""
    seconds = {variant: [turn["seconds"] for turn in turns] for variant, turns in results.items()}
    memory = {variant: median(turn["memory_mib"] for turn in turns) for variant, turns in results.items()}
    plain = min(median(seconds[variant]) for variant in PLAIN if variant in seconds)
    speedup = {variant: plain / median(values) for variant, values in seconds.items()}
    share = limit.seconds / median(seconds["exact"])
    heads = ["variant", "seconds a step", "against fastest plain", "peak memory, MiB", "against plain"]
    rows = [
        [
            variant, f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})", f"{speedup[variant]:.2f} x",
            f"{memory[variant]:.0f}", f"{memory[variant] / memory['plain']:.2f} x",
        ]
        for variant, values in seconds.items()
    ]  # fmt: skip
    lines = [
        "# A bilevel search step",
        "",
        f"`python benchmarks/search.py`; {banner(CPU, precision)}; ResNet-50, 128 channels, 11 operations, {SIDE} "
        f"pixels, batch {BATCH}; medians over {len(results['plain'])} turns, spread in brackets. plain: "
        "float32, contiguous; plain bf16: bfloat16, channels last; the others: channels last, in the precision that "
        f"search.py measures to be the fastest, here {precision}.",
        "",
        markdown(Table(heads, rows)),
        "",
        f"The limit of an exact step: {limit.convolutions:.2f} s of convolutions and their gradients, "
        f"{limit.products + limit.rest:.2f} s of everything else, together {limit.seconds:.2f} s, {100 * share:.0f} % "
        "of what the step takes.",
    ]
    figures = {"exact_share": round(share, 3)}
    for variant in ("exact", "partial4"):
        figures[f"{variant}_over_plain"] = round(speedup[variant], 3)
        figures[f"{variant}_memory"] = round(memory[variant] / memory["plain"], 3)
    replace_text(table, "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(figures))


def _batch(layout: torch.memory_format) -> Batch:
    image = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=layout)
    return image, (torch.rand(BATCH, 1, SIDE, SIDE) > 0.7).float()


if __name__ == "__main__":
    sys.exit(main())
