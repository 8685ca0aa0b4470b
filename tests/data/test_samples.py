"""The sample images: few, small, readable, and each with its source."""

from pathlib import Path

from data.image_io import read_image
from data.layouts import find_images


def test_every_sample_has_its_source_and_licence(root: Path):
    samples = root / "data" / "samples"
    files = find_images(samples).files
    rows = {
        line.split("`")[1]: line
        for line in (samples / "SOURCES.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    }
    assert {file.name for file in files} == set(rows)
    assert 6 <= len(files) <= 8
    for row in rows.values():
        assert any(licence in row for licence in ("CC0", "CC BY 2.0", "public domain"))


def test_samples_are_small_photographs(root: Path):
    files = find_images(root / "data" / "samples").files
    assert sum(file.stat().st_size for file in files) < 1_500_000
    for file in files:
        image = read_image(file)
        assert 400 <= max(image.shape) <= 600
        assert image.std() > 20, file.name
