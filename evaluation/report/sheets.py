"""Sheets of pictures in the manner of a paper's qualitative figure: photograph, mask, every method's map, scores."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data.image_io import read_image
from data.masks import read_mask
from evaluation.map_files import read_map
from evaluation.measures import label
from evaluation.methods import Evaluated
from evaluation.report.figures import styled
from evaluation.tables.scores import short

PICTURE_SIDE = 300  # pixels of the longer side: 1 inch at the 300 dpi of print
_TILE, _CAPTION, _HEADING, _LINE = 1.0, 0.18, 0.42, 0.11  # inches: side of a tile, line below it, above all, more
_NAME, _HEAD = 34, 16  # letters that fit below two tiles, and above one


def draw_sheet(evaluated: Evaluated, places: Sequence[int], rule: str, key: str) -> Figure:
    """One row per picture: photograph, mask, then the methods' maps with the picture's score below each.

    Args:
        places: of the pictures, in the data set's order.
        rule: how they were chosen; goes into the title.
        key: the measure that is printed below each map.
    """
    heads = [textwrap.fill(head, _HEAD) for head in ("photograph", "mask", *evaluated.scores)]
    seen = [tiles(evaluated, place) for place in places]
    heights = [_TILE * min(1, mask.shape[0] / mask.shape[1]) for mask in (found["mask"] for found in seen)]
    heading = _HEADING + _LINE * max(head.count("\n") for head in heads)
    size = (_TILE * len(heads), sum(heights) + _CAPTION * len(places) + heading)
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.015, h_pad=0.02, wspace=0, hspace=0)  # pyright: ignore
        grid: NDArray[Any] = figure.subplots(len(places), len(heads), squeeze=False, height_ratios=heights)
        for line, place, pictures in zip(grid, places, seen, strict=True):
            _draw_row(line, pictures, _captions(evaluated, place, key))
        for axes, head in zip(grid[0], heads, strict=True):
            axes.set_title(head, fontsize=7, pad=3, parse_math=False)
        figure.suptitle(f"{evaluated.data_set.name}: {rule}", fontsize=8, parse_math=False)
    return figure


def tiles(evaluated: Evaluated, place: int, side: int = PICTURE_SIDE) -> Mapping[str, NDArray[np.uint8]]:
    """What there is to see of one picture, no longer than `side` pixels, all of one size.

    Returns:
        "photograph" (h, w, 3) RGB, "mask" (h, w), and under "map METHOD" every method's map (h, w).
    """
    pair = evaluated.data_set.pairs[place]
    photograph = shrink(read_image(pair.image), side)
    size = photograph.shape[1::-1]
    maps = {
        f"map {method}": cv2.resize(read_map(known[place].map_path), size, interpolation=cv2.INTER_AREA)
        for method, known in evaluated.data_set.maps.items()
    }
    mask = cv2.resize(read_mask(pair.mask, pair.coding), size, interpolation=cv2.INTER_AREA)
    return {"photograph": photograph, "mask": mask, **maps}  # pyright: ignore[reportReturnType]


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Brings the longer side down to `side` pixels; smaller pictures stay as they are.

    Shapes:
        picture: (H, W) or (H, W, C).
    """
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(scale * length)) for length in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _captions(evaluated: Evaluated, place: int, key: str) -> list[str]:
    """What stands below each tile: the picture's name, nothing, then every method's score."""
    name = label(key).split(" (")[0]
    scores = [known.rows[place].measures[key] for known in evaluated.scores.values()]
    return [_shortened(evaluated.data_set.pairs[place].name), "", *(f"{name} {short(score)}" for score in scores)]


def _shortened(name: str) -> str:
    """The end of a long name: there the pictures of a data set differ."""
    return name if len(name) <= _NAME else "\N{HORIZONTAL ELLIPSIS}" + name[1 - _NAME :]


def _draw_row(line: Sequence[Axes], pictures: Mapping[str, NDArray[np.uint8]], captions: Sequence[str]) -> None:
    for axes, picture, caption in zip(line, pictures.values(), captions, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
        # The name starts at the left edge, and goes on below the mask, which has no caption.
        place: Literal["left", "center"] = "left" if axes is line[0] else "center"
        axes.set_xlabel(caption, fontsize=6, labelpad=1.5, loc=place, parse_math=False)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, linewidth=0.4, color="0.6")
