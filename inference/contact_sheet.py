"""The contact sheet of a run: rows of images, each beside its map, overlay and mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from utils.errors import UserError

Pixels = NDArray[np.uint8]

PAPER, INK = (238, 238, 238), (40, 40, 40)
PANEL_HEIGHT, PANEL_WIDTH, GAP, LINE = 180, 240, 6, 20
BLOCK_GAP = 24
BLOCK_ROWS = 6  # longer sheets have two blocks side by side


@dataclass(frozen=True)
class SheetRow:
    """One row of a contact sheet.

    Args:
        caption: the text above the row, for example the image's name.
        panels: images, (H, W) or (H, W, 3), each of any size.
    """

    caption: str
    panels: Sequence[Pixels]


def contact_sheet(headers: Sequence[str], rows: Sequence[SheetRow]) -> Pixels:
    """Rows of panels with captions; long sheets have two blocks side by side.

    Args:
        headers: one word for each column of panels.
        rows: each with at most one panel for each header.

    Shapes:
        returns: (H, W, 3).

    Raises:
        UserError: there is no row, or a row has more panels than headers.
    """
    if not rows:
        raise UserError("a contact sheet needs at least one image, got 0")
    for row in rows:
        if len(row.panels) > len(headers):
            raise UserError(f"{row.caption}: {len(row.panels)} panels for the {len(headers)} columns {headers}")
    blocks = 1 if len(rows) <= BLOCK_ROWS else 2
    length = -(-len(rows) // blocks)  # rows of a block, rounded up
    block_width = len(headers) * (PANEL_WIDTH + GAP) - GAP + BLOCK_GAP
    row_height = LINE + PANEL_HEIGHT + GAP
    width = 2 * GAP + blocks * block_width - BLOCK_GAP
    canvas = Image.new("RGB", (width, LINE + 2 * GAP + length * row_height), PAPER)
    for block in range(blocks):
        _write_headers(canvas, headers, GAP + block * block_width)
    for index, row in enumerate(rows):
        block, line = divmod(index, length)
        _paste_row(canvas, row, GAP + block * block_width, LINE + 2 * GAP + line * row_height)
    return np.asarray(canvas)


def _write_headers(canvas: Image.Image, headers: Sequence[str], left: int) -> None:
    draw = ImageDraw.Draw(canvas)
    for column, header in enumerate(headers):
        middle = left + column * (PANEL_WIDTH + GAP) + PANEL_WIDTH // 2
        draw.text((middle, GAP), header, INK, _font(bold=True), anchor="ma")


def _paste_row(canvas: Image.Image, row: SheetRow, left: int, top: int) -> None:
    """Caption and panels, each panel centred in its place."""
    room = len(row.panels) * (PANEL_WIDTH + GAP) - GAP
    ImageDraw.Draw(canvas).text((left, top), _shorten(row.caption, room), INK, _font(bold=False))
    for column, panel in enumerate(row.panels):
        fitted = _fit(panel)
        x = left + column * (PANEL_WIDTH + GAP) + (PANEL_WIDTH - fitted.width) // 2
        canvas.paste(fitted, (x, top + LINE + (PANEL_HEIGHT - fitted.height) // 2))


def _fit(panel: Pixels) -> Image.Image:
    """The panel as RGB at the largest size that fits its place, with its proportions."""
    height, width = panel.shape[:2]
    scale = min(PANEL_HEIGHT / height, PANEL_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return Image.fromarray(cv2.resize(panel, size, interpolation=method)).convert("RGB")


def _shorten(text: str, room: int) -> str:
    """The text, or its end behind three dots where it is wider than `room` pixels."""
    font = _font(bold=False)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"...{text}") > room:
        text = text[1:]
    return f"...{text}"


@lru_cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    # matplotlib ships DejaVu Sans, which has more scripts than Pillow's own font.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), 13)
