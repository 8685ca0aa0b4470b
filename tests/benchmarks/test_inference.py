"""benchmarks/inference.py: what is timed runs, and the figures follow from the times."""

import json

import pytest

from benchmarks import inference, inference_report


def part(**milliseconds):
    rows = [
        {"engine": name.split("_")[0], "precision": name.split("_")[1], "memory": 100.0,
         "ms": dict.fromkeys(inference.WAYS, value)}
        for name, value in milliseconds.items()
    ]  # fmt: skip
    return {
        "size": 256, "pictures": 4, "images": "x", "rounds": 1, "machine": "m", "rows": rows,
        "gmac": {"plain": 12.0, "folded": 10.0}, "peak": {"fp32": 100.0, "bf16": 400.0, "int8": 800.0},
    }  # fmt: skip


def test_figures_follow_from_the_times(tmp_path):
    parts = {
        "resnet50": part(plain_fp32=240.0, torch_bf16=80.0, openvino_bf16=60.0, openvino_int8=40.0),
        "lite": part(plain_fp32=60.0, torch_fp32=40.0, torch_bf16=20.0, openvino_int8=10.0),
    }
    assert inference_report.figures(parts) == {
        "torch_speedup": 3.0, "openvino_bf16_speedup": 4.0, "openvino_int8_speedup": 6.0,
        "lite_pictures_per_s": 100.0, "lite_torch_pictures_per_s": 50.0,
    }  # fmt: skip
    inference_report.write_report(parts, tmp_path / "report")
    written = (tmp_path / "report.md").read_text()
    # 20 GFLOP in 80 ms are 250 a second, of 400; the plain network's 24 in 240 ms are 100 of 100.
    assert "| torch | bf16 | 80.0 | 80.0 | 80.0 | 80.0 | 12.5 | 3.00 | 62 % | 100 |" in written
    assert "| plain | fp32 | 240.0 | 240.0 | 240.0 | 240.0 | 4.2 | 1.00 | 100 % | 100 |" in written
    assert (tmp_path / "report.svg").read_text().count("openvino int8") == 2


def test_what_was_not_measured_is_no_figure():
    figures = inference_report.figures({"resnet50": part(plain_fp32=240.0, torch_fp32=120.0)})
    assert figures["torch_speedup"] == 2.0  # a processor without bfloat16
    assert figures["openvino_int8_speedup"] is None and figures["lite_pictures_per_s"] is None


@pytest.mark.slow
def test_a_run_measures_every_way(tmp_path, monkeypatch, capsys):
    """The lite network with PyTorch alone, one round of two pictures."""
    monkeypatch.setattr(inference, "VARIANTS", (("torch", "fp32"),))
    assert inference.main(["--networks", "lite", "--count", "2", "--rounds", "1", "--parts", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "lite.json").read_text())
    assert [(row["engine"], row["precision"]) for row in record["rows"]] == [("plain", "fp32"), ("torch", "fp32")]
    assert all(set(row["ms"]) == set(inference.WAYS) and min(row["ms"].values()) > 0 for row in record["rows"])
    assert record["gmac"]["folded"] < record["gmac"]["plain"]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["lite_torch_pictures_per_s"] > 0 and last["torch_speedup"] is None
