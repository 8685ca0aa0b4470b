"""Runs that belong together are done once, and are recognised by what they compute."""

import json
from threading import Event, Timer

import pytest

from data.synthetic import write_scenes
from net.genotype import Genotype, load
from training.run_group import Run, RunGroup, RunGroupError, side_by_side, training_run

PROGRAM = """
import sys
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
if "fail" in sys.argv:
    sys.exit("the disk is full")
out.joinpath("runs.txt").open("a").write("run\\n")
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def runs_of(folder):
    return (folder / "runs.txt").read_text().count("run")


def test_a_run_is_done_once_whatever_its_folder_is_called(tmp_path, program):
    group = RunGroup(tmp_path / "group")
    folder = group.complete(Run("first", program, ("--lr", "1"), {"lr": 1}))
    assert folder.name.startswith("first-") and runs_of(folder) == 1
    renamed = folder.rename(folder.with_name("something-else"))
    again = RunGroup(tmp_path / "group").complete(Run("title", program, ("--lr", "1"), {"lr": 1}))
    assert again == renamed and runs_of(again) == 1


def test_another_setting_is_another_run_under_the_same_title(tmp_path, program):
    group = RunGroup(tmp_path / "group")
    folders = {group.complete(Run("same", program, (), {"lr": rate})) for rate in (1, 2)}
    assert len(folders) == 2 and all(runs_of(folder) == 1 for folder in folders)


def test_a_run_that_was_stopped_continues_in_its_folder(tmp_path, program):
    group, run = RunGroup(tmp_path / "group"), Run("one", program, (), {"lr": 1})
    folder = group.complete(run)
    (folder / "finished.json").unlink()  # as after a kill
    assert group.complete(run) == folder and runs_of(folder) == 2


def test_a_run_that_fails_reports_its_last_line(tmp_path, program):
    group = RunGroup(tmp_path / "group")
    with pytest.raises(RunGroupError, match=r"ended with code 1: the disk is full \(all output: .*output.txt"):
        group.complete(Run("one", program, ("fail",), {}))
    assert not list(tmp_path.rglob("finished.json"))


def test_runs_of_an_earlier_version_are_refused(tmp_path):
    folder = tmp_path / "group" / "random_0_0"
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text('["train.py", "--seed", "0"]')
    with pytest.raises(RunGroupError, match=r"random_0_0: is a run of an earlier version.*Give another --out"):
        RunGroup(tmp_path / "group")


@pytest.fixture
def arguments(tmp_path):
    write_scenes(tmp_path / "data", 2, 40, seed=0)
    genotype = load("resnet50")
    (tmp_path / "cells.json").write_text(genotype.to_json())
    (tmp_path / "weights.pt").write_bytes(b"one")
    return ["--data.root", tmp_path / "data", "--network.genotype", tmp_path / "cells.json", "--encoder-weights",
            tmp_path / "weights.pt"]  # fmt: skip


def test_a_training_is_known_by_settings_weights_genotype_and_data(tmp_path, arguments):
    def key(*more):
        from training.run_group import file_content

        file_content.cache_clear()
        return training_run("x", [*arguments, *more]).key

    before = key()
    assert key() == before
    assert key("--data.workers", "0") == key("--save-every", "7") == before, "no effect on what is computed"
    assert key("--epochs", "48") == before, "the default that is meant anyway"
    assert key("--network.genotype", "resnet50") == before, "the same cells under another name"
    assert not any(name.startswith("distillation") for name in training_run("x", arguments).content), (
        "as before it existed"
    )
    soft_maps = ["--distillation.maps", tmp_path / "data"]
    assert len({before, key(*soft_maps), key(*soft_maps, "--distillation.weight", "0.3")}) == 3
    assert key("--network.context", "none") == before != key("--network.context", "gate")
    assert key("--epochs", "47") != before and key("--seed", "1") != before and key("--device", "cpu") != before
    same = load("resnet50")
    (tmp_path / "cells.json").write_text(Genotype(same.cells, same.topology, {"note": "provenance"}).to_json())
    assert key() == before
    (tmp_path / "cells.json").write_text(load("vgg16").to_json())
    other = key()
    assert other != before
    (tmp_path / "weights.pt").write_bytes(b"two")
    assert key() != other
    (tmp_path / "weights.pt").write_bytes(b"one")
    assert key() == other
    next((tmp_path / "data" / "images").iterdir()).unlink()
    assert key() != other


def test_a_setting_that_came_later_leaves_the_runs_of_before(arguments):
    """Evidence that is weeks of training would else be made again."""
    assert "network.context" not in training_run("x", arguments).content
    assert training_run("x", [*arguments, "--network.context", "gate"]).content["network.context"] == "gate"


def test_the_record_says_what_the_run_depends_on(tmp_path, program):
    folder = RunGroup(tmp_path / "group").complete(Run("one", program, ("--lr", "1"), {"lr": 1}))
    record = json.loads((folder / "run.json").read_text())
    assert record["content"] == {"lr": 1} and record["arguments"] == ["--lr", "1"]


def test_after_an_error_nothing_more_begins():
    """An error in scoring once showed only when all other trainings had ended."""
    begun, go_on = [], Event()
    with pytest.raises(RunGroupError, match="scoring"), side_by_side(1) as threads:
        runs = threads.map(lambda number: (begun.append(number), go_on.wait(10) if number else None), range(20))
        next(runs)
        Timer(0.2, go_on.set).start()
        raise RunGroupError("scoring failed")
    assert len(begun) <= 2
