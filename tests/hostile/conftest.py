"""test.py as a function, with a tiny network, and images to run it on."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def words(tiny_weights, tmp_path):
    """The first words of a command line: a tiny network on the CPU, outputs in `tmp_path / "out"`."""
    fixed = ["--weights", tiny_weights, "--device", "cpu", "--engine", "torch", "--precision", "fp32"]
    return [*map(str, fixed), "--out", str(tmp_path / "out")]


@pytest.fixture
def run(script, words):
    """Runs test.py; a later `--out` replaces the first."""
    return lambda *more: script.main([*words, *map(str, more)])


def make_image(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)


@pytest.fixture
def photos(tmp_path):
    """Three images."""
    for seed, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        make_image(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


def contents(folder):
    """The bytes of every file below a folder, by path; without the time-dependent records."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("results.json", "manifest.jsonl")
    }
