"""The sheet of backgrounds."""

from PIL import Image

from benchmarks import backgrounds


def test_the_sheet_has_a_column_for_every_type(tmp_path):
    target = tmp_path / "sheet.jpg"
    assert backgrounds.main(["--out", str(target)]) == 0
    committed = Image.open(backgrounds.ROOT / "docs/backgrounds.jpg")
    assert Image.open(target).size == committed.size
