"""The newest whole checkpoint wins."""

import pytest
import torch

from training.checkpoints import load_newest, rehearse, save_newest
from utils.checkpoint import CheckpointError, save_checkpoint
from utils.files import WriteError


def write(folder, *steps):
    for step in steps:
        save_newest(folder, {"step": step, "weights": torch.full((1000,), float(step))})


def test_the_newest_is_loaded_and_the_one_before_is_kept(tmp_path):
    write(tmp_path, 1, 2, 3)
    state, path = load_newest(tmp_path)
    assert state["step"] == 3 and path.name == "last.pt"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


def test_an_empty_folder_has_none(tmp_path):
    assert load_newest(tmp_path) is None


def torn(content):
    return content[: len(content) // 2]


def flipped(content):
    place = len(content) // 2  # inside of the weights: the archive's own structure stays whole
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [torn, flipped, lambda content: b""])
def test_a_broken_one_falls_back_with_a_line(tmp_path, damage):
    write(tmp_path, 1, 2)
    path = tmp_path / "last.pt"
    path.write_bytes(damage(path.read_bytes()))
    said = []
    state, found = load_newest(tmp_path, said.append)
    assert state["step"] == 1 and found.name == "previous.pt"
    assert said == [f"{path} is broken and skipped"]


def test_a_save_cut_off_between_its_two_renames_falls_back(tmp_path):
    write(tmp_path, 1, 2)
    (tmp_path / "last.pt").unlink()
    assert load_newest(tmp_path)[0]["step"] == 1


def test_none_whole_is_an_error(tmp_path):
    write(tmp_path, 1, 2)
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"last.pt: truncated .* another --out"):
        load_newest(tmp_path)


def test_a_rehearsal_leaves_nothing_and_names_the_real_file(tmp_path):
    rehearse(tmp_path / "last.pt", lambda trial: save_checkpoint(trial, {"step": 1}))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/last.pt: can't be written \(File exists\)"):
        rehearse(tmp_path / "file" / "last.pt", lambda trial: save_checkpoint(trial, {"step": 1}))
