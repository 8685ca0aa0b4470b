"""Point 6: weights that cannot be weights are refused by the name of the tensor; other threads are a notice."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from net import encoder
from tests.hostile.conftest import contents
from tests.hostile.training import set_up_run
from utils.checkpoint import CheckpointError
from utils.errors import UserError

SPOILED = {
    "nan": (lambda value: value.index_fill(0, torch.tensor([0]), torch.nan), "NaN or infinity"),
    "infinity": (lambda value: value.index_fill(0, torch.tensor([0]), -torch.inf), "NaN or infinity"),
    "integer": (lambda value: value.to(torch.int64), "is torch.int64"),
    "boolean": (lambda value: value > 0, "is torch.bool"),
    "complex": (lambda value: value.to(torch.complex64), "is torch.complex64"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_network_with_such_a_tensor(run, photos, tiny_weights, tmp_path, kind):
    spoil, told = SPOILED[kind]
    state = load_file(tiny_weights)
    key = next(key for key in state if key.startswith("laterals") and state[key].ndim == 4)
    with safe_open(tiny_weights, "pt") as file:
        save_file({**state, key: spoil(state[key]).contiguous()}, tmp_path / "bad.safetensors", file.metadata())
    before = contents(tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        run("--images", photos, "--weights", tmp_path / "bad.safetensors")
    assert f"'{key}'" in str(caught.value) and len(str(caught.value)) < 300
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", SPOILED)
def test_an_encoder_with_such_a_tensor(tmp_path, kind):
    spoil, told = SPOILED[kind]
    state = encoder.build("test_efficientnet").body.state_dict()
    key = next(key for key in state if state[key].ndim == 4)
    torch.save({**state, key: spoil(state[key])}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=told) as caught:
        encoder.build("test_efficientnet", tmp_path / "bad.pt")
    assert key in str(caught.value)


def test_a_resume_with_other_threads_is_a_notice(tmp_path, monkeypatch, capsys):
    run = set_up_run(tmp_path)
    run.progress.step = 1
    run.session.save()
    run.session.close()
    assert "notice" not in capsys.readouterr().out
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    set_up_run(tmp_path).session.close()
    assert "notice: threads: saved with" in capsys.readouterr().out
