"""The table of measured latencies that a search may weigh operations by; `benchmarks/operations.py` writes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from net.cost import CostError, Price, Side, multiply_accumulates
from net.settings import CostConfig
from net.supernet import SuperNet
from net.wiring import Edge

SCHEMA = 1
AGAIN = "Measure it: python benchmarks/operations.py"


def load_prices(config: CostConfig, channels: int, network: SuperNet, sides: Mapping[Edge, Side]) -> Price | None:
    """What an operation costs at a side, by the config; None without a cost term.

    Raises:
        CostError: if the table is no table, or lacks an operation, a side, or the width of this search.
    """
    if config.kind == "none":
        return None
    if config.kind == "macs":
        return lambda name, side: multiply_accumulates(name, channels, side)
    assert config.table is not None
    table = _read(config.table)
    if table["channels"] != channels:
        raise CostError(
            f"{config.table}: measured at {table['channels']} channels, this search has {channels}. {AGAIN} "
            f"--channels {channels}."
        )
    milliseconds: Mapping[str, Mapping[str, float]] = table["milliseconds"]
    for edge, mixture in network.mixtures():
        key = side_key(sides[edge])
        missing = [name for name in mixture.names if name not in milliseconds.get(key, {})]
        if missing:
            raise CostError(
                f"{config.table}: has no '{missing[0]}' at {key}, which {edge} needs; it has the sides "
                f"{', '.join(milliseconds)}. {AGAIN} with the encoder and the size of this search."
            )
    return lambda name, side: milliseconds[side_key(side)][name]


def side_key(side: Side) -> str:
    """`HxW`, as the table names a side."""
    return f"{side[0]}x{side[1]}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CostError(f"cost.table: {path} is no file. {AGAIN}.")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CostError(f"{path}: no JSON ({error}). {AGAIN}.") from None
    if not isinstance(table, dict) or table.get("schema") != SCHEMA or not isinstance(table.get("milliseconds"), dict):
        raise CostError(f"{path}: no table of latencies of schema {SCHEMA}. {AGAIN}.")
    return table
