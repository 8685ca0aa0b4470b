"""Point 17: a request out of range or out of place is one line under 300 characters, exit code 2, nothing written."""

import time

import pytest

from net.genotype import load
from settings.parser import parse
from tests.hostile.conftest import contents
from training.settings import TrainConfig
from utils.errors import UserError, one_line


@pytest.mark.parametrize(
    "more",
    [
        ["--size", "1000000000"], ["--size", "16"], ["--size", "-1"], ["--size", "nan"], ["--workers", "1000"],
        ["--workers", "0"], ["--batch", "0"], ["--batch", "10000000000"], ["--sizes", "224", "7"], ["--gain", "nan"],
        ["--gain", "-1"], ["--specks", "2"], ["--crop", "7"], ["--max-megapixels", "0"], ["--type", "glass" * 100],
        ["--size", "224", "--sizes", "224"], ["--images", "x", "--data", "A=b"], ["--data", "x" * 5000],
        ["--imges", "x"], ["--calibration", "x"], ["--device", "tpu"],
    ],
)  # fmt: skip
def test_one_line_and_nothing_written(script, words, photos, tmp_path, capsys, more):
    before = contents(tmp_path)
    images = [] if "--data" in more or "--images" in more else ["--images", str(photos)]
    try:
        script.main([*words, *images, *more])
    except UserError as error:
        line = f"error: {one_line(str(error))}"
    except SystemExit as end:
        assert end.code == 2
        line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and len(line) < 300 and "\n" not in line and "usage" not in line
    assert contents(tmp_path) == before


def test_a_folder_at_the_name_of_a_map(run, photos, tmp_path):
    (tmp_path / "out/maps/a.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"maps/a\.png: is a folder"):
        run("--images", photos)


def test_a_read_only_map_is_replaced(run, photos, tmp_path):
    assert run("--images", photos) == 0
    before = contents(tmp_path / "out")
    for path in (tmp_path / "out/maps").rglob("*.png"):
        path.write_bytes(b"old")
        path.chmod(0o444)
    assert run("--images", photos) == 0
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["file", "file/below", "cut.gif/x"])
def test_an_output_below_a_file(run, photos, tmp_path, name):
    (tmp_path / name.split("/")[0]).write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        run("--images", photos, "--out", tmp_path / name)
    assert (tmp_path / name.split("/")[0]).read_text() == "mine"


def test_several_images_and_one_file(run, photos, tmp_path):
    with pytest.raises(UserError, match=r"is one file, but the run has 3 images"):
        run("--images", photos, "--out", tmp_path / "all.png")
    with pytest.raises(UserError, match=r"is one file, but the run has overlay and cutout"):
        run("--images", photos / "a.png", "--overlay", "--cutout", "--out", tmp_path / "all.png")
    with pytest.raises(UserError, match="JPEG has no transparency"):
        run("--images", photos / "a.png", "--cutout", "--out", tmp_path / "all.jpg")


LEVELS = "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "words",
    [
        ["--seed", "-1"], ["--seed", "1e99"], ["--network.channels", "1000000000"], ["--data.size", "1000000000"],
        ["--data.workers", "1000"], ["--epochs", "0"], ["--batch", "-4"], ["--optim.lr", "nan"],
        ["--optim.lr", "-.inf"], ["--config", b"out: caf\xe9\n"], ["--config", b"config: {}\n"],
        ["--config", b"a: &a [x]\n" + LEVELS.encode()], ["--config", b"[" * 100_000], ["--config", b"\0\1\2"],
        ["--config", b"batch: " + b"9" * 3000], ["--epochz", "3"],
    ],
)  # fmt: skip
def test_settings_of_a_training(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)  # so that the length of a message does not depend on the place
    if isinstance(words[1], bytes):
        (tmp_path / "settings.yaml").write_bytes(words[1])
        words = ["--config", "settings.yaml"]
    begin = time.process_time()
    with pytest.raises((SystemExit, UserError)) as caught:
        parse(TrainConfig, "", ["--data.root", ".", "--out", "run", *words])
    assert time.process_time() - begin < 2
    if isinstance(caught.value, UserError):
        line = f"error: {one_line(str(caught.value))}"
    else:
        assert caught.value.code == 2
        line = capsys.readouterr().err.rstrip("\n")
    assert line.startswith("error: ") and len(line) < 300 and "\n" not in line and "usage" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\0\x93", b"[" * 100_000, b'{"cells": ' * 5000, b'{"version": 1, "cells": [], "provenance": 5}',
        b'{"cells": ["' + b"x" * 3000 + b'"]}', b"null", b"1e999", b"",
    ],
)  # fmt: skip
def test_a_genotype_file(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.json").write_bytes(content)
    with pytest.raises(UserError, match=r"cells\.json") as caught:
        load("cells.json")
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
