"""The acceptance program: every check runs for real on the CPU, with small networks; one failure hides no other."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import CHECKS, alone, isolated, report
from benchmarks.gpu_checks import CPU, Sizes
from tests.conftest import ROOT
from utils.device import DeviceError

SMALL = Sizes(CPU, small=True)


@pytest.mark.parametrize("name", CHECKS)
def test_it_passes_on_the_cpu(name):
    result = alone(name, SMALL)
    assert result["state"] == "passed" and result["values"], result
    assert f"## {name}" in report("cpu", {name: {**result, "seconds": 1.0}})
    json.dumps(result)


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


def test_the_program_writes_its_report(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--device", "cpu", "--small"]
    done = subprocess.run(
        [*command, "--checks", "roofline"], cwd=tmp_path, capture_output=True, text=True, check=True
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["checks"]["roofline"]["values"]["tflops"] > 0
    assert "1 of 1 checks passed" in (tmp_path / found["report"]).read_text()
