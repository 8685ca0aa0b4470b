"""Milliseconds of every candidate operation on this device, as a table that a search can weigh operations by.

    python benchmarks/operations.py                                     128 channels at ResNet-50's sides of 256 pixels
    python benchmarks/operations.py --encoder efficientnet_lite0 --channels 64 --size 128 --out lite.json
    python search.py --config ... --cost.kind latency --cost.table lite.json

Inference of one image, in the precision that the device computes in; operations take turns, the median counts.
`none` costs nothing, since a derived network leaves it out. Last line: JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.tables.writer import Table, markdown
from inference.memory import keep_memory
from nas.latency import SCHEMA, side_key
from net import encoder as encoders
from net import operations
from net.cost import Side
from settings.plugins import run_files
from utils.device import autocast, banner, choose_device, choose_precision
from utils.errors import exit_on_user_error
from utils.files import replace_text


def main() -> int:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", default="resnet50", help="whose levels give the sides")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--size", type=int, default=256, help="side of the input, pixels")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--plugins", type=Path, nargs="+", default=[], help="files with your own operations")
    parser.add_argument("--out", type=Path, default=Path("runs/operations.json"))
    options = parser.parse_args()
    run_files(options.plugins)
    keep_memory()
    device = choose_device(options.device)
    precision = choose_precision("auto", device)
    print(banner(device, precision))
    sides = level_sides(options.encoder, options.size)
    milliseconds = {
        side_key(side): measure(options.channels, side, options.rounds, device, precision) for side in sides
    }
    record = {
        "schema": SCHEMA, "device": banner(device, precision), "encoder": options.encoder, "size": options.size,
        "channels": options.channels, "milliseconds": milliseconds,
    }  # fmt: skip
    replace_text(options.out, json.dumps(record, indent=2) + "\n")
    rows = [[name, *(f"{column[name]:.3f}" for column in milliseconds.values())] for name in operations.names()]
    print(markdown(Table(["operation", *milliseconds], rows)))
    print(json.dumps({"table": str(options.out), **milliseconds}))
    return 0


@torch.inference_mode()
def level_sides(encoder: str, size: int) -> list[Side]:
    """Sides (H, W) of the levels of an encoder, finest first."""
    levels = encoders.build(encoder).eval()(torch.zeros(1, 3, size, size))
    return [(level.shape[-2], level.shape[-1]) for level in levels]


@torch.inference_mode()
def measure(channels: int, side: Side, rounds: int, device: torch.device, precision: str) -> dict[str, float]:
    """Median milliseconds of every operation at a side."""
    modules = {name: operations.build(name, channels).eval().to(device) for name in operations.names()}
    x = torch.randn(1, channels, *side, device=device).to(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    with autocast(device, precision):
        for number in tqdm(range(rounds + 3), f"{side_key(side)}", disable=None, leave=False):
            for name, module in modules.items():
                spent = _seconds(module, x, device)
                if number >= 3:  # the first rounds warm up
                    seconds[name].append(spent)
    return {name: 0.0 if name == "none" else round(1000 * median(values), 5) for name, values in seconds.items()}


def _seconds(module: nn.Module, x: torch.Tensor, device: torch.device) -> float:
    begin = time.perf_counter()
    module(x)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
