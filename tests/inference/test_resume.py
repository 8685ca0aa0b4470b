"""Which maps count as whole, and which runs may be gone on with."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.image_io import write_png
from inference.resume import ResumeError, check_same_run, is_whole_png, unfinished
from inference.tasks import Task

CONDITIONS = {"weights": {"file": "a.pt", "sha256": "0" * 64}, "size": 256, "engine": "torch", "precision": "fp32"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("png") / "whole.png"
    write_png(path, np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    return path.read_bytes()


@given(length=st.floats(0, 1, exclude_max=True))
def test_a_cut_map_is_not_whole(whole, tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut.png"
    path.write_bytes(whole[: int(length * len(whole))])
    assert not is_whole_png(path)
    path.write_bytes(whole)
    assert is_whole_png(path)


def test_other_files_are_not_whole_maps(tmp_path, whole):
    (tmp_path / "text.png").write_text("no picture, but long enough to have a head and an end" * 3)
    assert not is_whole_png(tmp_path / "text.png")
    assert not is_whole_png(tmp_path / "missing.png")
    assert not is_whole_png(tmp_path)


def test_every_output_must_be_there(tmp_path, whole):
    tasks = [Task(name, tmp_path / f"{name}.jpg") for name in "abc"]
    for name, kinds in {"a": ["maps", "overlay"], "b": ["maps"]}.items():
        for kind in kinds:
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{name}.png").write_bytes(whole)
    assert [task.name for task in unfinished(tasks, tmp_path, ["maps"])] == ["c"]
    assert [task.name for task in unfinished(tasks, tmp_path, ["maps", "overlay"])] == ["b", "c"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 224}, "made with size 256, this run has 224"),
        ({"calibration": "0123"}, "made with calibration None, this run has 0123"),
        ({"precision": "bf16"}, "made with precision fp32, this run has bf16"),
        ({"engine": "openvino"}, "made with engine torch, this run has openvino"),
        ({"weights": {"file": "b.pt", "sha256": "1" * 64}}, r"weights a\.pt \(0{12}\), this run has b\.pt \(1{12}\)"),
    ],
)
def test_other_maps_are_not_gone_on_with(tmp_path, changed, message):
    check_same_run(tmp_path, CONDITIONS)  # nothing there yet
    (tmp_path / "maps").mkdir()
    with pytest.raises(ResumeError, match=r"holds maps, but no readable results\.json"):
        check_same_run(tmp_path, CONDITIONS)
    (tmp_path / "results.json").write_text(json.dumps(CONDITIONS))
    check_same_run(tmp_path, CONDITIONS)
    with pytest.raises(ResumeError, match=message):
        check_same_run(tmp_path, CONDITIONS | changed)
