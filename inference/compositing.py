"""Pictures for people: the overlay, the cut-out and the contact sheet.

Everything here takes and gives 8-bit arrays; nothing reads or writes a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from utils.errors import UserError

Picture = NDArray[np.uint8]

ORANGE = (230, 159, 0)  # of the colour-blind safe palette of Okabe and Ito
DIMMED = 0.35  # brightness that the overlay leaves to the background
SHEET_GROUND, SHEET_INK = (238, 238, 238), (40, 40, 40)
PANEL_HEIGHT, PANEL_WIDTH, GAP, LINE = 180, 240, 6, 20
BLOCK_GAP = 24
BLOCK_ROWS = 6  # longer sheets stand in two blocks side by side


def overlay(image: Picture, saliency: Picture) -> Picture:
    """The object in its own colours on a dimmed grey background, outlined where the map crosses one half.

    Args:
        image: RGB.
        saliency: map, 0 to 255.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).

    Raises:
        UserError: the two differ in size.
    """
    _same_size(image, saliency)
    grey = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=DIMMED)
    out = _blend(image, cv2.merge([grey] * 3), saliency)
    outlines, _ = cv2.findContours(_object(saliency), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, round(min(saliency.shape) / 200))
    cv2.drawContours(out, outlines, -1, ORANGE, thickness, cv2.LINE_AA)
    return _picture(out)


def cut_out(image: Picture, saliency: Picture) -> Picture:
    """The object alone: the map is the alpha channel and the colours are the object's own.

    At the rim a pixel mixes object and background; with the mixed colour a cut-out carries a seam of its old
    background. So the colour is estimated from the object's side (`foreground`). Pixels with a map of 255
    keep their colour exactly.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 4), RGBA, not premultiplied.

    Raises:
        UserError: the two differ in size.
    """
    _same_size(image, saliency)
    return np.dstack([foreground(image, saliency), saliency])


def on_ground(image: Picture, saliency: Picture, colour: tuple[int, int, int]) -> Picture:
    """The cut-out laid on a plain ground, for files without alpha.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).

    Raises:
        UserError: the two differ in size.
    """
    _same_size(image, saliency)
    return _picture(_blend(foreground(image, saliency), np.full_like(image, colour), saliency))


def foreground(image: Picture, saliency: Picture) -> Picture:
    """Colours of the object where it mixes with the background, by two rounds of blur fusion.

    Source: Forte, "Approximate Fast Foreground Colour Estimation" (ICIP 2021): the object's colour is the
    mean of its surroundings weighted by alpha, corrected by what the mixture leaves unexplained.
    Differs from it: the radii follow the picture's size (there 90 and 6 pixels).

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).
    """
    colour = image.astype(np.float32)
    alpha = np.repeat(saliency[..., None].astype(np.float32) / np.float32(255), 3, axis=2)  # (H, W, 3)
    front, back = colour, colour
    for share in (1 / 8, 1 / 64):
        side = 2 * max(1, round(share * min(saliency.shape))) + 1
        front, back = _fuse(colour, front, back, alpha, side)
    return np.rint(front).astype(np.uint8)


def _fuse(
    colour: NDArray[np.float32],
    front: NDArray[np.float32],
    back: NDArray[np.float32],
    alpha: NDArray[np.float32],
    side: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One round of blur fusion with a box of `side` pixels: (front, back), each (H, W, 3)."""
    share = cv2.blur(alpha, (side, side))
    mean_front = cv2.blur(front * alpha, (side, side)) / (share + 1e-5)
    mean_back = cv2.blur(back * (1 - alpha), (side, side)) / (1 - share + 1e-5)
    unexplained = colour - alpha * mean_front - (1 - alpha) * mean_back
    return np.clip(mean_front + alpha * unexplained, 0, 255).astype(np.float32), mean_back.astype(np.float32)


@dataclass(frozen=True)
class SheetRow:
    """One row of a contact sheet.

    Args:
        caption: what stands above the row, for example the picture's name.
        panels: pictures, (H, W) or (H, W, 3), each of any size.
    """

    caption: str
    panels: Sequence[Picture]


def contact_sheet(headers: Sequence[str], rows: Sequence[SheetRow]) -> Picture:
    """Rows of panels with captions; long sheets stand in two blocks side by side.

    Args:
        headers: one word for each column of panels.
        rows: each with one panel a header, or fewer.

    Shapes:
        returns: (H, W, 3).

    Raises:
        UserError: no row, or a row with more panels than headers.
    """
    if not rows:
        raise UserError("a contact sheet needs at least one picture, got 0")
    for row in rows:
        if len(row.panels) > len(headers):
            raise UserError(f"{row.caption}: {len(row.panels)} panels for the {len(headers)} columns {headers}")
    blocks = 1 if len(rows) <= BLOCK_ROWS else 2
    length = -(-len(rows) // blocks)  # rows of a block, rounded up
    block_width = len(headers) * (PANEL_WIDTH + GAP) - GAP + BLOCK_GAP
    row_height = LINE + PANEL_HEIGHT + GAP
    width = 2 * GAP + blocks * block_width - BLOCK_GAP
    canvas = Image.new("RGB", (width, LINE + 2 * GAP + length * row_height), SHEET_GROUND)
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
        draw.text((middle, GAP), header, SHEET_INK, _font(bold=True), anchor="ma")


def _paste_row(canvas: Image.Image, row: SheetRow, left: int, top: int) -> None:
    """Caption and panels, each panel centred in its place."""
    room = len(row.panels) * (PANEL_WIDTH + GAP) - GAP
    ImageDraw.Draw(canvas).text((left, top), _shorten(row.caption, room), SHEET_INK, _font(bold=False))
    for column, panel in enumerate(row.panels):
        picture = _fit(panel)
        x = left + column * (PANEL_WIDTH + GAP) + (PANEL_WIDTH - picture.width) // 2
        canvas.paste(picture, (x, top + LINE + (PANEL_HEIGHT - picture.height) // 2))


def _fit(panel: Picture) -> Image.Image:
    """The panel as RGB at the largest size that fits its place, proportions kept."""
    height, width = panel.shape[:2]
    scale = min(PANEL_HEIGHT / height, PANEL_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return Image.fromarray(cv2.resize(panel, size, interpolation=method)).convert("RGB")


def _shorten(text: str, room: int) -> str:
    """The text, or its end behind three dots where `room` pixels do not hold all of it."""
    font = _font(bold=False)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"...{text}") > room:
        text = text[1:]
    return f"...{text}"


@lru_cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    # matplotlib ships DejaVu Sans, which knows more scripts than Pillow's own font.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), 13)


def _blend(front: MatLike, back: MatLike, saliency: Picture) -> MatLike:
    """`front` where the map is 255, `back` where it is 0, and between them in proportion; (H, W, 3)."""
    weight = cv2.merge([saliency] * 3)
    return cv2.add(
        cv2.multiply(front, weight, scale=1 / 255), cv2.multiply(back, cv2.bitwise_not(weight), scale=1 / 255)
    )


def _object(saliency: Picture) -> Picture:
    return _picture(cv2.threshold(saliency, 127, 255, cv2.THRESH_BINARY)[1])


def _picture(array: MatLike) -> Picture:
    return np.asarray(array, dtype=np.uint8)


def _same_size(image: Picture, saliency: Picture) -> None:
    if image.shape[:2] != saliency.shape:
        raise UserError(f"picture {image.shape[:2]} and map {saliency.shape} differ in size (height, width)")
