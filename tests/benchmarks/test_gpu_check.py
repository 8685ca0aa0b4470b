"""The acceptance program: every check runs for real on the CPU, with small networks; one failure hides no other."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import gpu_check, gpu_checks
from benchmarks.gpu_check import CHECKS, alone, isolated, report
from benchmarks.gpu_checks import CPU, Sizes
from benchmarks.gpu_speed import busy
from inference.weights import load_network
from utils.device import DeviceError

SMALL = Sizes(CPU, small=True)


@pytest.mark.parametrize("name", CHECKS)
def test_it_passes_on_the_cpu(name):
    result = alone(name, SMALL)
    assert result["state"] == "passed" and result["values"], result
    assert f"## {name}" in report("cpu", {name: {**result, "seconds": 1.0}})
    json.dumps(result)


@pytest.mark.parametrize("there", [True, False])
def test_precisions_are_those_of_the_cpu(there, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    assert SMALL.precisions() == (["fp32", "bf16"] if there else ["fp32"]) and SMALL.fast() == ["fp32"]


@pytest.mark.parametrize(("capability", "precisions", "fast"), [
    ((7, 5), ["fp32", "fp16"], ["fp32"]), ((8, 0), ["fp32", "tf32", "bf16", "fp16"], ["bf16", "tf32"]),
])  # fmt: skip
def test_precisions_are_those_of_the_gpu(capability, precisions, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability >= (8, 0))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    gpu = Sizes(torch.device("cuda"), small=True)
    assert gpu.precisions() == precisions and gpu.fast() == fast


@pytest.mark.parametrize("name", ["maps", "engine", "mixed_precision"])
def test_a_cpu_without_bfloat16_passes_in_float32(name, tiny_weights, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    monkeypatch.setattr(gpu_checks, "load_network", lambda _: load_network(tiny_weights))
    result = alone(name, SMALL)
    assert result["state"] == "passed" and list(result["values"]) == ["fp32"], result


def test_busy_seconds_are_those_that_pytorch_adds_up():
    with profile(activities=[ProfilerActivity.CPU]) as found:
        (torch.ones(8, 8, requires_grad=True) @ torch.ones(8, 8)).sum().backward()
    wanted = sum(event.self_cpu_time_total for event in found.key_averages()) / 1e6
    assert found.profiler is not None and found.profiler.kineto_results is not None
    assert busy(found.profiler.kineto_results.events(), "cpu") == pytest.approx(wanted, rel=1e-6)


def test_a_kernel_of_the_gpu_is_busy_once():
    def event(kind, stream, start, duration, note=False):
        answers = {"device_resource_id": stream, "start_ns": start, "duration_ns": duration, "is_user_annotation": note,
                   "device_type": SimpleNamespace(name=kind)}  # fmt: skip
        return SimpleNamespace(**{name: lambda answer=answer: answer for name, answer in answers.items()})

    events = [event("CPU", 1, 0, 500), event("CUDA", 7, 0, 900, note=True), event("CUDA", 7, 100, 300),
              event("CUDA", 7, 400, 200), event("CUDA", 8, 0, 50)]  # fmt: skip
    assert busy(events, "cuda") == 550e-9


def test_the_limits_add_up_to_less_than_ten_minutes_beside_the_budget():
    assert gpu_check.BUDGET < 600 and all(0 < limit <= 100 for _, limit in CHECKS.values())


def test_a_check_that_fails_is_a_line(monkeypatch):
    def wrong(sizes):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setitem(CHECKS, "maps", (wrong, 10))
    assert alone("maps", SMALL) == {"state": "failed", "message": "RuntimeError: no kernel"}


@pytest.mark.parametrize(("code", "message"), [("import time; time.sleep(60)", "not finished after 1 s"),
                                               ("import os; os.abort()", "exit status -6")])  # fmt: skip
def test_a_check_that_hangs_or_crashes_is_a_line(code, message, monkeypatch):
    monkeypatch.setitem(CHECKS, "maps", (None, 1 if "sleep" in code else 30))
    real = subprocess.run
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda _, **options: real([sys.executable, "-c", code], **options))
    result = isolated("maps", [], 100.0)
    assert result["state"] == "failed" and message in result["message"]


def test_without_time_a_check_is_left_out():
    assert isolated("maps", [], 0.0)["state"] == "left out"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line():
    with pytest.raises(DeviceError, match="--device cuda: PyTorch .* finds no cuda device here"):
        gpu_check.main([])


def test_the_program_writes_its_report(tmp_path, monkeypatch, capsys):
    """It starts itself for the check."""
    monkeypatch.chdir(tmp_path)
    assert gpu_check.main(["--device", "cpu", "--small", "--checks", "roofline"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["checks"]["roofline"]["values"]["tflops"] > 0
    assert "1 of 1 checks passed" in (tmp_path / found["report"]).read_text()
