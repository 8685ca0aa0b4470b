"""benchmarks/inference.py: what is timed runs, and the figures follow from the times."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import inference, inference_report, networks
from benchmarks.memory import peak_of
from inference.engines import choice
from inference.weights import load_network
from tests.programs import server


def part(**milliseconds):
    rows = [
        {"engine": name.split("_")[0], "precision": name.split("_")[1], "memory": 100.0,
         "ms": dict.fromkeys(inference.WAYS, value), "spread": dict.fromkeys(inference.WAYS, 0.05)}
        for name, value in milliseconds.items()
    ]  # fmt: skip
    return {
        "size": 256, "count": 4, "images": "x", "rounds": 1, "machine": "m", "rows": rows,
        "gmac": {"plain": 12.0, "folded": 10.0}, "limit": {"fp32": 60.0, "bf16": 48.0},
    }  # fmt: skip


def test_figures_follow_from_the_times(tmp_path):
    parts = {
        "resnet50": part(plain_fp32=240.0, torch_bf16=80.0, openvino_bf16=60.0, openvino_int8=40.0),
        "lite": part(plain_fp32=60.0, torch_fp32=40.0, torch_bf16=20.0, openvino_int8=10.0),
    }
    parts["lite"]["auto"] = ["torch", "bf16"]
    parts["lite"]["limit"] = {}
    assert inference_report.figures(parts) == {
        "torch_speedup": 3.0, "openvino_bf16_speedup": 4.0, "openvino_int8_speedup": 6.0,
        "lite_images_per_s": 100.0, "lite_torch_images_per_s": 50.0, "auto_over_best": 0.5,
        "resnet50_share": None, "lite_share": None,
    }  # fmt: skip
    inference_report.write_report(parts, tmp_path / "report")
    written = (tmp_path / "report.md").read_text()
    # 48 of 80 ms, and 60 of 240; the limit of int8 was not measured.
    assert "| torch | bf16 | 80.0 | 80.0 | 80.0 | 80.0 | 12.5 | 3.00 | 60 % | 5 % | 100 |" in written
    assert "| plain | fp32 | 240.0 | 240.0 | 240.0 | 240.0 | 4.2 | 1.00 | 25 % | 5 % | 100 |" in written
    assert "| openvino | int8 | 40.0 | 40.0 | 40.0 | 40.0 | 25.0 | 6.00 |  | 5 % | 100 |" in written
    drawn = (tmp_path / "report.svg").read_text()
    assert drawn.count("openvino int8") == 2 and "noisy" not in drawn
    parts["resnet50"]["rows"][0]["spread"]["pipeline 8"] = 0.4  # the plain network varied: no ratio of it is drawn
    inference_report.write_report({"resnet50": parts["resnet50"]}, tmp_path / "report")
    assert "noisy" in (tmp_path / "report.svg").read_text()


def test_auto_is_compared_with_what_it_may_take():
    """int8 of seeded weights is fastest and wrong."""
    one = part(plain_fp32=240.0, torch_fp32=80.0, openvino_int8=40.0)
    one["auto"] = ["torch", "fp32"]
    assert inference_report.figures({"resnet50": one})["auto_over_best"] == 0.5
    one["rows"][2]["difference"] = 0.02
    assert inference_report.figures({"resnet50": one})["auto_over_best"] == 1.0


def test_the_share_is_that_of_the_variant_which_auto_takes():
    one = part(plain_fp32=240.0, torch_bf16=80.0, openvino_bf16=60.0)
    one["auto"] = ["openvino", "bf16"]
    assert inference_report.figures({"resnet50": one})["resnet50_share"] == 0.8  # 48 of 60 ms


def test_the_memory_of_a_call_leaves_out_what_was_freed_before_it():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak can be reset on Linux only")
    torch.zeros(100 << 18)  # 100 MiB of float32, freed at once
    idle = peak_of(lambda: None)
    assert 90 < peak_of(lambda: torch.ones(100 << 18).sum()) - idle < 130


def test_benchmarks_write_to_runs_by_default(tmp_path, monkeypatch, tiny_weights):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "build_network", lambda _: load_network(tiny_weights).network)
    monkeypatch.setattr(networks, "PUBLISHED", ("resnet50",))
    monkeypatch.setattr(networks, "shipped", list)
    monkeypatch.setattr(networks, "PUBLISHED_SIZE", 64)
    assert networks.main([]) == 0
    assert "| resnet50 | 64 |" in (tmp_path / "runs/benchmarks/networks.md").read_text()


def test_what_was_not_measured_is_no_figure():
    figures = inference_report.figures({"resnet50": part(plain_fp32=240.0, torch_fp32=120.0)})
    assert figures["torch_speedup"] == 2.0  # a processor without bfloat16
    assert figures["openvino_int8_speedup"] is None and figures["lite_images_per_s"] is None


@pytest.mark.slow
def test_a_run_measures_every_way(tmp_path, monkeypatch, capsys, tiny_weights):
    """Only PyTorch, one round of two images; the process of the plain network takes the shipped lite network."""
    monkeypatch.setattr(inference, "VARIANTS", (("torch", "fp32"),))
    monkeypatch.setattr(inference, "load_network", lambda name: load_network(tiny_weights))
    monkeypatch.setattr(choice, "installed", lambda name: False)
    monkeypatch.chdir(tmp_path)
    words = ["--networks", "lite", "--count", "2", "--rounds", "1", "--no-limits", "--parts", str(tmp_path)]
    with server() as context:
        monkeypatch.setattr(inference, "get_context", lambda _: context)
        assert inference.main(words) == 0
    record = json.loads((tmp_path / "lite.json").read_text())
    assert [(row["engine"], row["precision"]) for row in record["rows"]] == [("plain", "fp32"), ("torch", "fp32")]
    assert all(set(row["ms"]) == set(inference.WAYS) and min(row["ms"].values()) > 0 for row in record["rows"])
    assert record["gmac"]["folded"] < record["gmac"]["plain"]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["lite_torch_images_per_s"] > 0 and last["torch_speedup"] is None
