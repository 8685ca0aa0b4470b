"""Images a second and peak memory of a training step: ours against the loop that a reader would write first.

    python benchmarks/training.py                     lite and published ResNet-50 network
    python benchmarks/training.py --networks lite     one of them

Variants, each in a process of its own, alternated:
    float32   contiguous, float32: the plain loop
    bf16      bfloat16 autocast, channels last: what the PyTorch documentation advises
    ours      bf16 as well, `net.cpu_kernels.accelerate` and `utils.device.keep_memory`: what train.py does
Both bf16 variants need a CPU with bfloat16 units; without them they run in float32, and the table says so.
The loss and the optimizer are the same in all. Last line: JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from net.auto_msfnet import NetworkConfig, build_network
from net.cpu_kernels import accelerate
from net.losses import LossConfig, saliency_loss
from utils.device import autocast, banner, choose_precision, keep_memory
from utils.files import replace_text
from utils.optim import OptimConfig, build_optimizer

VARIANTS = ("float32", "bf16", "ours")
NETWORKS = {  # network, batch, side in pixels
    "lite": (NetworkConfig("efficientnet_lite0", "resnet50", 64), 16, 224),
    "resnet50": (NetworkConfig("resnet50", "resnet50", 128), 8, 256),
}
TABLE = Path(__file__).with_suffix(".md")
CPU = torch.device("cpu")


def main() -> int:
    """Runs every variant of every network in turn and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="how often the variants take turns")
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn, after two that do not count")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        network, variant = options.one
        print(json.dumps(measure(network, variant, options.steps)))
        return 0
    turns = [(network, variant) for _ in range(options.rounds) for network in options.networks for variant in VARIANTS]
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for network, variant in tqdm(turns, disable=None):
        command = [sys.executable, __file__, "--one", network, variant, "--steps", str(options.steps)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.setdefault((network, variant), []).append(json.loads(done.stdout.splitlines()[-1]))
    report(options.networks, results)
    return 0


def measure(network: str, variant: str, steps: int) -> dict[str, float]:
    """Median seconds of a step and this process's peak memory in MiB."""
    config, batch, side = NETWORKS[network]
    precision = "fp32" if variant == "float32" else choose_precision("auto", CPU)
    layout = torch.contiguous_format if variant == "float32" else torch.channels_last
    if variant == "ours":
        keep_memory()
    torch.manual_seed(0)
    model = build_network(config).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    if variant == "ours":
        accelerate(model)
    optimizer = build_optimizer(model, OptimConfig())
    image = torch.randn(batch, 3, side, side).to(memory_format=layout)
    mask = (torch.rand(batch, 1, side, side) > 0.7).float()
    seconds: list[float] = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        with autocast(CPU, precision):
            logits = model(image)
        loss = saliency_loss(logits, mask, LossConfig()).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": median(seconds[2:]), "memory_mib": memory}


def report(networks: list[str], results: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    """Prints and writes the table; the last line is JSON."""
    precision = choose_precision("auto", CPU)
    lines = [
        "# Training step",
        "",
        f"`python benchmarks/training.py`; {banner(CPU, precision)}; medians over {len(next(iter(results.values())))} "
        f"turns, spread in brackets. The bf16 variants ran in {precision}.",
        "",
        "| network | batch | pixels | variant | images/s | against float32 | peak memory, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    record: dict[str, float] = {}
    for network in networks:
        _, batch, side = NETWORKS[network]
        speeds = {variant: [batch / turn["seconds"] for turn in results[network, variant]] for variant in VARIANTS}
        for variant, values in speeds.items():
            ratio = median(values) / median(speeds["float32"])
            memory = median(turn["memory_mib"] for turn in results[network, variant])
            lines.append(
                f"| {network} | {batch} | {side} | {variant} | {median(values):.2f} ({min(values):.2f} to "
                f"{max(values):.2f}) | {ratio:.2f} x | {memory:.0f} |"
            )
        ours = median(speeds["ours"])
        record[f"{network}_speedup"] = round(ours / median(speeds["float32"]), 3)
        record[f"{network}_over_bf16"] = round(ours / median(speeds["bf16"]), 3)
    replace_text(TABLE, "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(record))


if __name__ == "__main__":
    sys.exit(main())
