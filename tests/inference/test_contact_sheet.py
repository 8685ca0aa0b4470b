"""Contact sheets of constructed images."""

import numpy as np
import pytest

from inference.contact_sheet import SheetRow, contact_sheet
from utils.errors import UserError


def _row(caption="name", *shapes):
    return SheetRow(caption, [np.full(shape, 10 + i, np.uint8) for i, shape in enumerate(shapes)])


@pytest.mark.parametrize("count", [1, 6, 7, 12])
def test_sheet_shows_every_panel(count):
    """Every panel has a value of its own; all of them are found on the sheet."""
    values = np.arange(10, 10 + 2 * count, dtype=np.uint8).reshape(count, 2)
    rows = [SheetRow(f"image {i}", [np.full((30, 40, 3), a), np.full((40, 30), b)]) for i, (a, b) in enumerate(values)]
    sheet = contact_sheet(["image", "map"], rows)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    for value in values.ravel():
        assert ((sheet == value).all(axis=2)).sum() > 10_000


def test_sheet_takes_every_size_and_long_names():
    sheet = contact_sheet(["image", "map"], [_row("x" * 500, (1, 1), (3000, 4)), _row("", (5, 2000, 3))])
    assert sheet.shape == contact_sheet(["image", "map"], [_row(), _row()]).shape


def test_sheet_captions_do_not_reach_the_panels():
    """Letters such as g and p hang below the line: they stay above the panel."""
    white = np.full((180, 240), 255, np.uint8)
    sheet = contact_sheet(["map"], [SheetRow("gpqyj", [white])])
    assert (sheet == 255).all(axis=2).sum() >= 180 * 240


def test_sheet_without_rows_and_with_too_many_panels():
    with pytest.raises(UserError, match="at least one image"):
        contact_sheet(["image"], [])
    with pytest.raises(UserError, match=r"dog: 2 panels for the 1 columns"):
        contact_sheet(["image"], [_row("dog", (2, 2), (2, 2))])
