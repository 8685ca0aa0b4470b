"""Point 20: a closed console, one that cannot show a character, a full disk, few descriptors: no traceback, no hang."""

import os
import resource
import subprocess
import sys

import pytest

from tests.hostile.conftest import make_image
from tests.programs import Done


def start(root, words, more, environment=None):
    command = [sys.executable, str(root / "test.py"), *words, *map(str, more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_closed_standard_output(root, words, photos, tmp_path):
    process = start(root, words, ["--images", photos])
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(timeout=300) == 0, errors
    assert "Traceback" not in errors and "BrokenPipe" not in errors
    assert len(list((tmp_path / "out/maps").rglob("*.png"))) == 3


def test_a_console_that_cannot_show_a_character(root, words, tmp_path):
    make_image(tmp_path / "in/ürgrün-猫.png")
    (tmp_path / "in/猫.jpg").write_bytes(b"damaged")
    process = start(root, words, ["--images", tmp_path / "in"],
                    environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})  # fmt: skip
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and b"Traceback" not in errors and b"\\u732b.jpg" in errors


@pytest.mark.parametrize(("limit", "value"), [(resource.RLIMIT_FSIZE, 60_000), (resource.RLIMIT_NOFILE, 64)])
def test_a_disk_that_fills_and_few_descriptors(words, tmp_path, limit, value):
    """No file may be larger than 60 kB, as on a full disk; or only 64 files may be open."""
    for seed in range(12):
        make_image(tmp_path / f"in/{seed}.png", seed, (64, 48))
    done = Done("test.py", *words, "--images", tmp_path / "in", "--sheet", "--workers", 8, limits={limit: value})
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "out/maps").glob("*.png"))) == 12, "what was made stays"


def test_failed_images_are_listed_before_the_rest_fails(script, words, photos, tmp_path, monkeypatch, capsys):
    """The disk fills after the maps: the list of failed images is on the console already."""
    from utils.files import WriteError

    (photos / "bad.png").write_bytes(b"damaged")

    def full(*_):
        raise WriteError("results.json: can't be written (No space left on device).")

    monkeypatch.setattr("inference.results.write_results", full)
    with pytest.raises(WriteError):
        script.main([*words, "--images", str(photos)])
    assert "bad.png" in capsys.readouterr().err
