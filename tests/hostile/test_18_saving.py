"""Point 18: whatever a first save needs is checked before the first step."""

import json
import os

import pytest

import train
from inference.weights import load_network
from tests.hostile.training import set_up_run
from utils.errors import UserError
from utils.files import WriteError


@pytest.mark.parametrize("name", ["best.safetensors", "last.pt"])
def test_a_save_that_fails_does_so_before_the_first_step(tmp_path, monkeypatch, name):
    def full(path, *_):
        raise WriteError(f"{path}: can't be written (No space left on device).")

    place = "training.run.save_weights" if name == "best.safetensors" else "training.session.save_checkpoint"
    monkeypatch.setattr(place, full)
    with pytest.raises(WriteError, match=rf"run/{name}: can't be written"):
        set_up_run(tmp_path)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"config.json", "log.jsonl", "tensorboard", ".lock"}


@pytest.mark.parametrize("folder", [b"d\xff", "数据".encode(), b"new\nline", b"x" * 255])
def test_names_of_any_bytes_are_saved(tmp_path, folder):
    """The name of the data is part of the settings, which every file of a run holds."""
    run = set_up_run(tmp_path, data=os.fsdecode(folder))
    assert train.train(run) == 0
    run.session.close()
    assert load_network(tmp_path / "run/best.safetensors").size == 64
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]
    resumed = set_up_run(tmp_path, data=os.fsdecode(folder))
    assert resumed.progress.epoch == 1
    resumed.session.close()


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "config.json", "log.jsonl"])
def test_a_folder_at_the_name_of_a_file(tmp_path, name):
    (tmp_path / "run" / name / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match=name) as caught:
        set_up_run(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert (tmp_path / "run" / name / "mine").is_dir()
