"""reproduce.py on generated scenes: a complete report, and the same one after it was killed."""

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import reproduce
from tests.programs import ROOT, run_of_group

pytestmark = pytest.mark.slow

OF_THE_MOMENT = re.compile(r"^Code: .*?$|## Hardware and hours.*", re.DOTALL | re.MULTILINE)


def start(out, *more):
    command = [sys.executable, "reproduce.py", "--smoke", "--backbones", "resnet50", "--device", "cpu", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*map(str, command), *more], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def complete(out):
    return reproduce.main(["--smoke", "--backbones", "resnet50", "--device", "cpu", "--out", str(out)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run_group.subprocess", SimpleNamespace(run=run_of_group))
        assert complete(out) == 0
    return out


def test_the_report_is_complete(undisturbed):
    text = (undisturbed / "report.md").read_text("utf-8")
    for part in ("Table 1", "0.916", "resnet50", "commit", "h of training", "cpu ("):
        assert part in text or part.removeprefix("0") in text, part
    files = re.findall(r"\]\(([^)#]+)\)", text)
    local = [name for name in files if "://" not in name]
    assert len(local) >= 13 and all((undisturbed / name).is_file() for name in local)
    for name in ("DUTS-TE", "ECSSD", "PASCAL-S", "DUT-OMRON", "HKU-IS"):
        assert name in text


def test_killed_and_started_again_it_writes_the_same_report(undisturbed, forked_runs):
    """Killed in the training, as by a power cut: with all its processes."""
    out = undisturbed.parent / "b"
    process = start(out)
    limit = time.monotonic() + 120
    while not list(out.glob("runs/train-*/last.pt")) and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(out.glob("runs/train-*/last.pt")) and not (out / "report.md").exists()
    assert complete(out) == 0
    reports = [OF_THE_MOMENT.sub("", (folder / "report.md").read_text("utf-8")) for folder in (undisturbed, out)]
    assert reports[0] == reports[1]
    for image in ("curves_resnet50.png", "cells_resnet50.png"):
        assert (out / image).read_bytes() == (undisturbed / image).read_bytes()


def test_a_finished_report_needs_no_step_again(undisturbed):
    def marks():
        return {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/finished.json")}

    before = marks()
    assert complete(undisturbed) == 0
    assert len(before) == 3 and marks() == before


def test_missing_datasets_are_one_line(tmp_path):
    (tmp_path / "ECSSD").mkdir()
    with pytest.raises(reproduce.UserError, match=r"there is no DUTS-TR, DUTS-TE, PASCAL-S, DUT-OMRON, HKU-IS"):
        reproduce.main(["--data", str(tmp_path)])


def test_either_data_or_smoke(tmp_path):
    for words in ([], ["--smoke", "--data", str(tmp_path)]):
        with pytest.raises(reproduce.UserError, match="--data: name the folder"):
            reproduce.main(words)
