"""Point 2: --resume keeps a map only if the same weights, settings and content made it."""

import json
import os
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.hostile.conftest import contents, make_image


def kept(out):
    return json.loads((out / "results.json").read_text())["sets"][0]["kept"]


def test_other_weights_for_one_image_between_two_runs(run, photos, tiny_weights, tmp_path):
    """The outer runs have the same weights; the map of the run between them must not survive."""
    other = tmp_path / "other.safetensors"
    with safe_open(tiny_weights, "pt") as file:
        metadata = file.metadata()
    save_file({key: value * 1.5 for key, value in load_file(tiny_weights).items()}, other, metadata)
    out = tmp_path / "out"
    assert run("--images", photos) == 0
    right = contents(out)
    assert run("--images", photos / "a.png", "--weights", other) == 0
    assert contents(out) != right
    assert run("--images", photos, "--resume") == 0
    assert contents(out) == right


@pytest.mark.parametrize("size", [(40, 30), (55, 31)])
def test_an_image_replaced_by_another(run, photos, tmp_path, size):
    assert run("--images", photos) == 0
    status = (photos / "a.png").stat()
    make_image(photos / "a.png", seed=9, size=size)
    os.utime(photos / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run("--images", photos, "--resume") == 0
    assert kept(tmp_path / "out") == 2
    resumed = contents(tmp_path / "out")
    assert run("--images", photos) == 0
    assert contents(tmp_path / "out") == resumed


def test_an_image_of_the_same_stem_joins(run, photos, tmp_path):
    assert run("--images", photos) == 0
    make_image(photos / "a.jpg", seed=7)
    assert run("--images", photos, "--resume") == 0
    assert set(contents(tmp_path / "out")) == {f"maps/{name}.png" for name in ("a.jpg", "a.png", "b", "deep/c")}
    (photos / "a.jpg").unlink()
    assert run("--images", photos, "--resume") == 0
    assert "maps/a.png" in contents(tmp_path / "out")
    assert "maps/a.png.png" not in contents(tmp_path / "out")


def test_the_map_of_an_image_broken_since_goes(run, photos, tmp_path, capsys):
    assert run("--images", photos, "--cutout") == 0
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:100])
    assert run("--images", photos, "--cutout", "--resume") == 1
    assert {name for name in contents(tmp_path / "out") if "b" in name.split("/")[-1]} == set()
    assert "b.jpg" in capsys.readouterr().err


def test_moved_inputs_and_outputs_are_kept(run, photos, tmp_path):
    assert run("--images", photos) == 0
    shutil.copytree(photos, tmp_path / "copy")
    shutil.rmtree(photos)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert run("--images", tmp_path / "copy", "--out", tmp_path / "moved", "--resume") == 0
    assert kept(tmp_path / "moved") == 3
