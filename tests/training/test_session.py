"""A session: its resume policy, point by point."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from training.checkpoints import StateError
from training.processes import Processes
from training.progress import Progress
from training.session import Format, Session
from utils.errors import UserError
from utils.paths import PathError

ALONE = Processes(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Settings:
    out: Path
    lr: float = 0.1
    workers: int = 2
    save_every: int = 10
    save_minutes: float = 0.0
    late: dict = field(default_factory=dict)


def refuse(state, path):
    if state.get("layout") != 1:
        raise StateError(f"{path}: layout {state.get('layout')}")
    return {**state, "layout": 2, "found": {"images": state.pop("count")}}


FORMAT = Format("test/1", 2, frozenset({"out", "workers", "save_every", "save_minutes"}), {"rate": "lr"}, refuse)


@pytest.fixture
def session(tmp_path):
    opened = []

    def open_session(facts=None, form=FORMAT, **settings):
        for one in opened:
            one.close()
        torch.manual_seed(len(opened))
        one = Session(Settings(tmp_path / "run", **settings), form, ALONE)
        opened.append(one)
        layer = torch.nn.Linear(2, 2)
        one.attach({"weights": layer}, Progress(), facts or {"images": 3}, {"note": "x"})
        return one

    yield open_session
    for one in opened:
        one.close()


def saved(session, steps=3):
    one = session()
    assert not one.restore()
    one.progress.step = steps
    one.save()
    return one


def test_a_second_session_in_one_folder_is_refused(session, tmp_path):
    session()
    assert Path(tmp_path / "run" / ".lock").is_file()
    with pytest.raises(PathError, match="another run"):  # POSIX locks belong to a process: another one must try
        raise_from_a_child(tmp_path / "run")


def raise_from_a_child(folder):
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(claim_folder, (folder,))


def claim_folder(folder):
    from utils.paths import claim

    claim(folder)


def test_everything_comes_back(session, capsys):
    first = saved(session)
    expected = torch.rand(2)
    second = session()
    assert not torch.equal(second.objects["weights"].weight, first.objects["weights"].weight)
    assert second.restore()
    assert torch.equal(second.objects["weights"].weight, first.objects["weights"].weight)
    assert second.progress.step == 3 and torch.equal(torch.rand(2), expected)
    assert "resuming from" in capsys.readouterr().out


def test_half_written_files_are_removed(session, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".last.77.part.pt").write_bytes(b"half")
    session()
    assert not list((tmp_path / "run").glob(".*.part.*"))


def test_settings_that_matter_are_compared(session):
    saved(session)
    session(workers=7)
    with pytest.raises(StateError, match=r"lr: the run in --out was started with 0.1, now it is 0.2"):
        session(lr=0.2)


def test_facts_are_compared(session):
    saved(session)
    with pytest.raises(StateError, match="images: the run in --out was started with 3, now it is 4"):
        session({"images": 4}).restore()
    assert session({"images": 3, "new": 1}).restore(), "a fact that an earlier version did not save is not compared"


def test_another_program_and_an_older_layout(session, tmp_path):
    saved(session)
    other = Format("other/1", 2, FORMAT.free, {}, refuse)
    with pytest.raises(StateError, match="layout 2"):
        session(form=other)
    path = tmp_path / "run" / "last.pt"
    state = torch.load(path, weights_only=True)
    state |= {"layout": 1, "count": 3}
    state["config"]["rate"] = state["config"].pop("lr")
    del state["found"], state["config"]["late"]
    torch.save(state, path)
    assert session().restore(), "upgraded, with a former name and without a setting that did not exist"


def test_weights_that_are_not_finite_are_refused(session, tmp_path):
    one = saved(session)
    with torch.no_grad():
        one.objects["weights"].bias[1] = torch.inf
    one.progress.step += 1
    one.save()
    with pytest.raises(StateError, match=r"last.pt: weights.bias holds NaN or infinity"):
        session().restore()


def test_another_number_of_threads_is_a_notice(session, monkeypatch, capsys):
    saved(session)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert session().restore()
    assert "notice: threads: saved with" in capsys.readouterr().out


def test_a_missing_object_is_one_line(session, tmp_path):
    saved(session)
    path = tmp_path / "run" / "last.pt"
    state = torch.load(path, weights_only=True)
    del state["weights"]
    torch.save(state, path)
    with pytest.raises(StateError, match="'weights' is missing"):
        session().restore()


def test_saves_by_steps_by_minutes_and_on_request(session, tmp_path):
    one = session(save_every=10, save_minutes=5.0)
    path = tmp_path / "run" / "last.pt"
    one.progress.step = 9
    assert not one.after_step() and not path.exists()
    one.progress.step = 10
    assert not one.after_step() and path.exists()
    written = path.stat().st_mtime_ns
    one.progress.step = 11
    assert not one.after_step() and path.stat().st_mtime_ns == written
    one._saved_time -= 301
    one.progress.step = 12
    assert not one.after_step() and path.stat().st_mtime_ns != written
    one.stop.requested = "SIGTERM"
    one.progress.step = 13
    assert one.after_step() and torch.load(path, weights_only=True)["progress"]["step"] == 13


def test_nothing_is_written_twice(session, tmp_path):
    one = saved(session)
    written = (tmp_path / "run" / "last.pt").stat().st_mtime_ns
    one.save()
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns == written


def test_a_state_that_cannot_be_saved_shows_before_the_first_step(session):
    one = session()
    one.facts = {"images": Path("a class, not a plain value")}
    with pytest.raises(UserError, match=r"last.pt: refused, since it holds more than tensors and plain values"):
        one.rehearse()
    assert not (one.folder / "last.pt").exists() and not list(one.folder.glob(".*.part.*"))


def test_an_item_that_cannot_be_read_saves_the_state_before_it(session, tmp_path):
    one = session()
    one.progress.step = 4

    def items():
        yield 1
        raise UserError("image.jpg: damaged")

    with pytest.raises(UserError, match="damaged"):
        list(one.lockstep(items()))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["progress"]["step"] == 4
