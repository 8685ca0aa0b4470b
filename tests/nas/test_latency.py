"""Tables of latencies: one that is measured is read back, and what does not fit a search is refused."""

import json
import sys

import pytest
import torch

from benchmarks import operations as benchmark
from nas.latency import load_prices
from net.cost import CostError, edge_sides
from net.settings import PAPER_SPACE, CostConfig, SpaceConfig
from net.supernet import build_supernet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_supernet(SpaceConfig("mobilenetv3_small_050", 16))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table that the benchmark has measured, of few rounds."""
    path = tmp_path_factory.mktemp("latency") / "table.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [
            "operations.py", "--encoder", "mobilenetv3_small_050", "--channels", "16", "--size", "64", "--rounds", "2",
            "--device", "cpu", "--out", str(path),
        ])  # fmt: skip
        assert benchmark.main() == 0
    return path


def test_a_measured_table_prices_every_edge(network, table):
    sides = edge_sides(network, 64)
    price = load_prices(CostConfig("latency", table=table), 16, network, sides)
    assert price is not None
    for side in sides.values():
        assert price("none", side) == 0
        assert all(price(name, side) >= 0 for name in PAPER_SPACE)
    assert price("conv_3x3_rp2", (16, 16)) > 0


def test_no_cost_term_has_no_price(network):
    assert load_prices(CostConfig(), 16, network, edge_sides(network, 64)) is None


def test_what_does_not_fit_is_refused(network, table, tmp_path):
    sides = edge_sides(network, 64)
    config = CostConfig("latency", table=table)
    with pytest.raises(CostError, match="measured at 16 channels, this search has 32"):
        load_prices(config, 32, network, sides)
    with pytest.raises(CostError, match="has no 'none' at 3x3, which cell 1 outer E5 needs; it has the sides 16x16"):
        load_prices(config, 16, network, edge_sides(network, 96))
    record = json.loads(table.read_text())
    del record["milliseconds"]["2x2"]["SpatialAttention"]
    (tmp_path / "part.json").write_text(json.dumps(record))
    with pytest.raises(CostError, match="has no 'SpatialAttention' at 2x2"):
        load_prices(CostConfig("latency", table=tmp_path / "part.json"), 16, network, sides)
    (tmp_path / "text.json").write_text("milliseconds")
    with pytest.raises(CostError, match=r"text.json: no JSON"):
        load_prices(CostConfig("latency", table=tmp_path / "text.json"), 16, network, sides)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CostError, match="no table of latencies"):
        load_prices(CostConfig("latency", table=tmp_path / "list.json"), 16, network, sides)
