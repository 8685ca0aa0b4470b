"""Sheets in the manner of a paper's qualitative figure: image, mask, every method's map, scores."""

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

IMAGE_SIDE = 300  # pixels of the longer side: 1 inch at the 300 dpi of print
_TILE, _CAPTION, _HEADING, _LINE = 1.0, 0.18, 0.42, 0.11  # inches: side of a tile, line below it, above all, more
_NAME, _HEAD = 34, 16  # letters that fit below two tiles, and above one


def draw_sheet(evaluated: Evaluated, places: Sequence[int], rule: str, key: str) -> Figure:
    """One row per image: image, mask, then the methods' maps with the image's score below each.

    Args:
        places: of the images, in the dataset's order.
        rule: how they were chosen; goes into the title.
        key: the measure that is printed below each map.
    """
    heads = [textwrap.fill(head, _HEAD) for head in ("image", "mask", *evaluated.scores)]
    seen = [tiles(evaluated, place) for place in places]
    heights = [_TILE * min(1, mask.shape[0] / mask.shape[1]) for mask in (found["mask"] for found in seen)]
    heading = _HEADING + _LINE * max(head.count("\n") for head in heads)
    size = (_TILE * len(heads), sum(heights) + _CAPTION * len(places) + heading)
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.015, h_pad=0.02, wspace=0, hspace=0)  # pyright: ignore
        grid: NDArray[Any] = figure.subplots(len(places), len(heads), squeeze=False, height_ratios=heights)
        for line, place, images in zip(grid, places, seen, strict=True):
            _draw_row(line, images, _captions(evaluated, place, key))
        for axes, head in zip(grid[0], heads, strict=True):
            axes.set_title(head, fontsize=7, pad=3, parse_math=False)
        figure.suptitle(f"{evaluated.data_set.name}: {rule}", fontsize=8, parse_math=False)
    return figure


def tiles(evaluated: Evaluated, place: int, side: int = IMAGE_SIDE) -> Mapping[str, NDArray[np.uint8]]:
    """What there is to see of one image, no longer than `side` pixels, all of one size.

    Returns:
        "image" (h, w, 3) RGB, "mask" (h, w), and under "map METHOD" every method's map (h, w).
    """
    target = evaluated.data_set.targets[place]
    assert target.image is not None  # see `DataSet.has_images`
    image = shrink(read_image(target.image), side)
    size = image.shape[1::-1]
    maps = {
        f"map {method}": cv2.resize(read_map(known[place].map_path), size, interpolation=cv2.INTER_AREA)
        for method, known in evaluated.data_set.maps.items()
    }
    mask = cv2.resize(read_mask(target.mask, target.coding), size, interpolation=cv2.INTER_AREA)
    return {"image": image, "mask": mask, **maps}  # pyright: ignore[reportReturnType]


def shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Brings the longer side down to `side` pixels; smaller images stay as they are.

    Shapes:
        image: (H, W) or (H, W, C).
    """
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _captions(evaluated: Evaluated, place: int, key: str) -> list[str]:
    """The caption of each tile: the image's name, nothing, then every method's score."""
    name = label(key).split(" (")[0]
    scores = [known.rows[place].measures[key] for known in evaluated.scores.values()]
    return [_shortened(evaluated.data_set.names[place]), "", *(f"{name} {short(score)}" for score in scores)]


def _shortened(name: str) -> str:
    """The end of a long name: there the images of a dataset differ."""
    return name if len(name) <= _NAME else "\N{HORIZONTAL ELLIPSIS}" + name[1 - _NAME :]


def _draw_row(line: Sequence[Axes], images: Mapping[str, NDArray[np.uint8]], captions: Sequence[str]) -> None:
    for axes, image, caption in zip(line, images.values(), captions, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        # The name starts at the left edge, and continues below the mask, which has no caption.
        place: Literal["left", "center"] = "left" if axes is line[0] else "center"
        axes.set_xlabel(caption, fontsize=6, labelpad=1.5, loc=place, parse_math=False)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, linewidth=0.4, color="0.6")
