"""Parameters and multiply-accumulates of the published and the shipped networks, as trained and folded for inference.

    python benchmarks/networks.py                  writes runs/benchmarks/networks.md
    python benchmarks/networks.py --update-docs    writes benchmarks/networks.md

Counted by torch.utils.flop_counter over one forward pass: convolutions and linear layers, two floating-point operations
a multiply-accumulate. As trained with all three heads, folded with the one that is read. The last line is JSON.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import UPDATE_HELP, table_folder
from evaluation.tables.writer import Table, markdown
from inference.folding.network import fold
from inference.weights import load_network, shipped
from net.auto_msfnet import build_network
from net.settings import NetworkConfig
from settings.parser import arguments
from utils.files import replace_text

PUBLISHED = ("resnet50", "vgg16")
PUBLISHED_SIZE = 256  # paper, Figure 2


def main(words: Sequence[str] | None = None) -> int:
    """Writes one row for each network."""
    parser = arguments(__doc__, "networks.py")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    folder = table_folder(parser.parse_args(words).update_docs)
    networks = {name: (build_network(NetworkConfig(name, name)), PUBLISHED_SIZE) for name in PUBLISHED}
    networks |= {name: (loaded.network, loaded.size) for name in shipped() for loaded in [load_network(name)]}
    record: dict[str, dict[str, float]] = {}
    lines = [
        "# Size of the networks", "",
        "`python benchmarks/networks.py`: parameters as trained; multiply-accumulates of one image in billions, as "
        "trained and folded for inference.", "",
    ]  # fmt: skip
    rows: list[list[str]] = []
    for name, (network, size) in networks.items():
        parameters, gmac = sum(p.numel() for p in network.parameters()), count_gmac(network, size)
        folded = count_gmac(fold(network.eval(), size), size)
        rows.append([name, str(size), f"{parameters:,}", f"{gmac:.2f}", f"{folded:.2f}"])
        record[name] = {"pixels": size, "parameters": parameters, "gmac": round(gmac, 3), "folded": round(folded, 3)}
    lines.append(markdown(Table(["network", "pixels", "parameters", "GMAC", "folded"], rows)))
    replace_text(folder / "networks.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(record))
    return 0


@torch.inference_mode()
def count_gmac(network: nn.Module, size: int) -> float:
    """Multiply-accumulates of one image, in billions."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2e9


if __name__ == "__main__":
    sys.exit(main())
