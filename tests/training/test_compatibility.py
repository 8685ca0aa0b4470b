"""What may change when a run resumes, what may not, and how settings of earlier versions are read."""

import pytest

from training.checkpoints import StateError
from training.compatibility import check_same, completed, contents, defaults, portable, renamed
from training.settings import TrainConfig


def test_what_changed_is_named():
    before = {"a": {"b": 1, "c": [1, 2]}, "out": "x"}
    check_same(before, {"a": {"b": 1, "c": [1, 2]}, "out": "y"}, frozenset({"out"}))
    with pytest.raises(StateError, match=r"^a.c: the run in --out was started with \[1, 2\], now it is \[1, 3\]"):
        check_same(before, {"a": {"b": 1, "c": [1, 3]}, "out": "x"})


def test_a_long_value_gives_a_short_message():
    with pytest.raises(StateError) as caught:
        check_same({"a": "x" * 5000}, {"a": "y" * 5000})
    assert len(str(caught.value)) < 300


def test_files_are_known_by_name():
    settings = {"data": {"root": "/home/me/DUTS-TR", "size": 64}, "network": {"genotype": "runs/a/genotype.json"},
                "operations": ["/x/mine.py"], "encoder_weights": "imagenet", "out": "C:\\runs\\one"}  # fmt: skip
    assert portable(settings) == {
        "data": {"root": "DUTS-TR", "size": 64}, "network": {"genotype": "genotype.json"}, "operations": ["mine.py"],
        "encoder_weights": "imagenet", "out": "one",
    }  # fmt: skip


def test_a_setting_that_is_new_has_its_default():
    default = defaults(TrainConfig)
    assert default["optim"]["lr"] == 0.05 and default["data"]["size"] == 256 and "root" not in default["data"]
    saved = completed({"data": {"root": "x", "size": 64}, "epochs": 3}, default)
    assert saved["data"] == {**default["data"], "root": "x", "size": 64}
    assert saved["epochs"] == 3 and saved["batch"] == 32


def test_former_names_are_read():
    saved = {"data": {"count": 3, "size": 1}, "pace": 2}
    assert renamed(saved, {"data.count": "data.images", "pace": "speed", "gone": "here"}) == {
        "data": {"images": 3, "size": 1}, "speed": 2,
    }  # fmt: skip
    assert saved["data"]["count"] == 3, "the argument stays as it is"


def test_contents_tell_files_apart(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("1")
    (tmp_path / "c.py").write_text("2")
    one, two, other = contents([tmp_path / f"{name}.py" for name in "abc"])
    assert one == two != other
