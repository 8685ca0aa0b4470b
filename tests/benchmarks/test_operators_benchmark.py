"""The count of operators: joined edges launch less than half, and views are counted apart."""

from collections import Counter
from dataclasses import replace

from benchmarks import operators
from benchmarks.operators import computing, count, report
from nas.settings import SearchConfig
from net.settings import SpaceConfig
from net.supernet import SuperNet
from tests.cuda.steps import FourLevels


def test_joined_edges_launch_less_than_half_of_the_operators(monkeypatch):
    few = ["none", "skip_connect", "sep_conv_3x3", "conv_3x3"]
    config = SearchConfig(space=SpaceConfig("four levels", 16, few), batch=2)
    monkeypatch.setattr(
        operators, "build_supernet", lambda space, _, frozen_norm: SuperNet(FourLevels(), space, frozen_norm)
    )
    config = replace(config, data=replace(config.data, size=64))
    counts = count(config)
    assert 2 * _edges(counts["joined"]) < _edges(counts["one by one"])
    assert set(counts["joined"]) == set(counts["one by one"]) and len(counts["joined"]) == 6
    assert "| all |" in report(config, "small.yaml", counts)


def _edges(parts):
    """Operators of both forward passes, which hold the edges."""
    return sum(computing({name: part}) for name, part in parts.items() if "forward" in name)


def test_a_view_launches_nothing():
    assert computing({"weights: forward": Counter(view=5, relu=2), "weights: backward": Counter(detach=1, mul=4)}) == 6


def test_the_committed_figure_is_at_most_6000():
    from benchmarks.tables import COMMITTED

    (row,) = [line for line in (COMMITTED / "operators.md").read_text().splitlines() if line.startswith("| all |")]
    assert int(row.split("|")[4].replace(",", "")) <= 6000
