"""The sheet of backgrounds."""

import sys

from PIL import Image

from benchmarks import backgrounds


def test_the_sheet_has_a_column_for_every_type(tmp_path, monkeypatch):
    target = tmp_path / "sheet.jpg"
    monkeypatch.setattr(sys, "argv", ["backgrounds.py", str(target)])
    assert backgrounds.main() == 0
    committed = Image.open(backgrounds.ROOT / "docs/backgrounds.jpg")
    assert Image.open(target).size == committed.size
