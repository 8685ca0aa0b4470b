"""test.py --resume: what is kept, what is computed again, and what a killed run leaves."""

import pytest

from inference.map_writer import MapWriter, _FileStages
from inference.predictor import Predictor
from tests.conftest import make_image
from tests.test_test_script import files, results


def test_resume_makes_only_what_is_missing(run, photos, capsys):
    assert run("--images", photos) == 0
    maps = {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")}
    cut, lost = run.out / "maps/a.png", run.out / "maps/deep/c.png"
    cut.write_bytes(maps[cut][:40])
    lost.unlink()
    kept = run.out / "maps/deep/er/b.png"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert run("--images", photos, "--resume") == 0
    assert {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")} == maps
    assert kept.stat().st_mtime_ns == before
    assert "(1 kept from an earlier run)" in capsys.readouterr().out.splitlines()[-1]
    assert results(run.out)["sets"][0]["kept"] == 1
    assert run("--images", photos, "--resume", "--size", "96") == 0
    assert "Changed: sizes [64], now [96]" in capsys.readouterr().out
    assert run("--images", photos, "--resume", "--size", "96") == 0
    assert "(3 kept" in capsys.readouterr().out


def test_a_resumed_map_is_computed_in_its_first_batch(run, photos, monkeypatch):
    """A logit's last bits depend on how many images are computed with it; here a whole step does."""
    compute, sizes = Predictor.logits, []

    def by_count(self, prepared):
        sizes.append(len(prepared))
        return compute(self, prepared) + len(prepared)

    monkeypatch.setattr(Predictor, "logits", by_count)
    for seed in range(6):
        make_image(photos / f"more/{seed}.png")
    assert run("--images", photos, "--batch", "4") == 0
    assert sorted(sizes) == [3, 3, 3]
    whole = {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")}
    lost = run.out / "maps/deep/c.png"
    lost.unlink()
    others = {path: path.stat().st_mtime_ns for path in whole if path != lost}
    sizes.clear()
    assert run("--images", photos, "--batch", "4", "--resume") == 0
    assert sizes == [3]
    assert {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")} == whole
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_resume_takes_no_map_of_other_settings(run, script, photos, monkeypatch, capsys):
    """A run over the maps of another one is killed; what it had not made yet must not count as its own."""
    assert run("--images", photos, "--size", "96") == 0
    monkeypatch.setattr(MapWriter, "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run("--images", photos)
    monkeypatch.undo()
    capsys.readouterr()
    assert run("--images", photos, "--resume") == 0
    assert "kept from an earlier" not in capsys.readouterr().out
    resumed = {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")}
    assert run("--images", photos) == 0
    assert {path: path.read_bytes() for path in (run.out / "maps").rglob("*.png")} == resumed


def test_resume_after_a_kill(run, script, photos, monkeypatch):
    """A run that ends in the middle leaves whole maps and a record, with which the next one resumes."""

    class Stop(BaseException):
        pass

    make, calls = _FileStages.write, []

    def dies(self, *rest):
        calls.append(1)
        if len(calls) == 2:
            raise Stop
        make(self, *rest)

    monkeypatch.setattr(_FileStages, "write", dies)
    with pytest.raises(Stop):
        run("--images", photos, "--workers", "1")
    assert len(files(run.out / "maps")) < 3
    monkeypatch.undo()
    assert run("--images", photos, "--resume") == 0
    assert len(files(run.out / "maps")) == 3
