"""Point 19: a damaged cache is rebuilt with a notice, and never ends a run."""

import json

import pytest

from inference.engines import choice
from inference.engines.cache import cached
from inference.weights import load_network
from tests.hostile.training import set_up_run

DAMAGE = [b"", b"{", b"\xff\xfe\0", b"[1]", b'{"settled": true, "engine": 5}', b"[" * 100_000]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of this test alone."""
    monkeypatch.setenv("AUTO_MSFNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_the_engine_choice(tiny_weights, cache, monkeypatch, capsys, damage):
    monkeypatch.setattr(choice, "installed", lambda name: name == "torch")
    torch_wins = choice.Outcome(("torch", "fp32"), {("torch", "fp32"): [0.01]}, 0.0)
    monkeypatch.setattr(choice, "race", lambda _: measured.append(1) or torch_wins)
    measured, loaded = [], load_network(tiny_weights)
    choice.build_engine(loaded)
    (stored,) = cache.glob("choice-*.json")
    before = json.loads(stored.read_text())
    stored.write_bytes(damage)
    assert choice.build_engine(loaded).name == "torch"
    assert len(measured) == 2 and json.loads(stored.read_text()).keys() == before.keys()
    assert damage.startswith(b'{"') or f"{stored}: is damaged; it is made again" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "no sums"])
def test_the_file_of_an_engine(cache, capsys, damage):
    def convert(folder):
        made.append(folder)
        (folder / "network.onnx").write_bytes(b"converted" * 99)

    made = []
    entry = cached("engine", convert, ["network.onnx"])
    path = entry / ("checksums.json" if damage == "no sums" else "network.onnx")
    content = path.read_bytes()
    half = content[: len(content) // 2]
    path.write_bytes({"cut": half, "zeros": bytes(len(content)), "empty": b"", "no sums": b"[" * 100_000}[damage])
    assert (cached("engine", convert, ["network.onnx"]) / "network.onnx").read_bytes() == b"converted" * 99
    assert len(made) == 2 and f"{entry}: is damaged; it is made again" in capsys.readouterr().err


def logged(tmp_path, entries):
    run = set_up_run(tmp_path)
    for step in range(1, entries + 1):
        run.log.scalars(step, {"loss": 1.0})
    run.progress.step = entries
    run.session.save()
    run.log.close()
    run.session.close()
    return tmp_path / "run/log.jsonl"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [*lines[:2], b"\xff\0{", *lines[2:]], "damaged lines left out: 1"),
        (lambda lines: [b'{"step": []}\n', b"[" * 50_000 + b"\n", *lines], "damaged lines left out: 2"),
        (lambda lines: lines[:2], "missing entries: 1"),
        (lambda lines: [], "missing entries: 3"),
        (None, "missing entries: 3"),
    ],
)
def test_the_log_of_a_run(tmp_path, capsys, damage, told):
    path = logged(tmp_path, 3)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    capsys.readouterr()
    run = set_up_run(tmp_path)
    text = capsys.readouterr().out
    assert f"notice: {path}: {told}" in text and run.progress.step == 3
    run.log.scalars(4, {"loss": 1.0})
    run.log.close()
    run.session.close()
    assert path.read_text().splitlines()[-1].startswith('{"step": 4')


def test_a_log_that_is_whole_is_no_notice(tmp_path, capsys):
    logged(tmp_path, 3)
    capsys.readouterr()
    set_up_run(tmp_path).session.close()
    assert "notice" not in capsys.readouterr().out
