"""Scores of a trained network on its validation split at several input sizes, and the choice of one.

    python benchmarks/input_size.py --data DUTS-TR [--weights lite] [--sizes 224 256] [--write FILE]

The images are the validation split of train.py (`--held-out`, `--seed`), so nothing is chosen on a benchmark. `--write`
stores the network with the size of the best weighted F. Prints a table; the last line is JSON.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.datasets import EpochBatches, SaliencyDataset, make_loader, split_pairs
from data.layouts import find_pairs
from data.pairs import with_coding
from data.transforms import EvalTransform
from evaluation.tables.writer import Table, markdown
from inference.memory import keep_memory
from inference.weights import load_network, save_weights
from settings.parser import arguments
from training.processes import Processes
from training.validation import validate
from utils.device import choose_device, choose_precision
from utils.errors import exit_on_user_error


def main() -> int:
    """Scores every size; 0 when everything was done."""
    parser = arguments(__doc__, "benchmarks/input_size.py")
    parser.add_argument("--data", type=Path, required=True, help="the dataset that was trained on")
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256])
    parser.add_argument("--held-out", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, metavar="FILE", help="a .safetensors for the network with the best size")
    options = parser.parse_args()
    keep_memory()
    device = choose_device("auto")
    loaded = load_network(options.weights)
    network = loaded.network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    _, held_out = split_pairs(with_coding(find_pairs(options.data)), options.held_out, options.seed)
    precision = choose_precision("auto", device)
    record: dict[int, dict[str, float]] = {}
    for size in options.sizes:
        loader = make_loader(SaliencyDataset(held_out, EvalTransform()), EpochBatches(len(held_out), 16, [size]))
        record[size] = validate(network, loader, device, precision, Processes(0, 1, device))
    rows = [
        [str(size), str(len(held_out)), *(f"{scores[key]:.4f}" for key in ("wfm", "maxf", "mae"))]
        for size, scores in record.items()
    ]
    print(markdown(Table(["pixels", "images", "weighted F", "max F", "MAE"], rows)))
    best = max(record, key=lambda size: record[size]["wfm"])
    if options.write:
        save_weights(options.write, loaded.network, loaded.config, best, {"held_out": record[best]})
    print(json.dumps({"best": best, **{str(size): scores for size, scores in record.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
