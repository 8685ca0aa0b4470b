"""What is made of an image and its saliency map: the cutout, its background, and the overlay.

Everything here maps 8-bit arrays to 8-bit arrays and imports neither PyTorch nor files of ours but `utils`, so that
cutout.py and test.py share it. Large images are composed in strips of rows: beside its inputs and its result a
function needs memory for a strip on each core, and to despill for means of half a million cells. The result equals that
of a single strip.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.hardware import usable_cores

Pixels = NDArray[np.uint8]
Colours = NDArray[np.float32]
Colour = tuple[int, int, int]

ORANGE: Colour = (230, 159, 0)  # of the colour-blind safe palette of Okabe and Ito
DIMMED = 0.35  # brightness that the overlay leaves to the background
SPREADS = (1 / 8, 1 / 64)  # radii of the two rounds of despill, as shares of the shorter side
CELLS = 1 << 19  # most cells for which despill computes means; in an image of fewer pixels a cell is a pixel
STRIP = 1 << 17  # pixels of a strip
BLURRED = 1 / 40  # deviation of a blurred background, as a share of the longer side
BLUR_SIDE = 512  # longer side, in pixels, at which a background is blurred
OBJECT = 26  # of 255: `object_box` covers every pixel of the map from here on


def overlay(image: Pixels, saliency: Pixels) -> Pixels:
    """The object in its own colours on a dimmed grey background, outlined where the map crosses one half.

    Args:
        image: RGB.
        saliency: map, 0 to 255.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).

    Raises:
        UserError: the two differ in size.
    """
    _check_sizes(image, saliency)
    out = np.empty_like(image)
    binary = np.empty_like(saliency)
    for rows in _strips(saliency):
        grey = cv2.convertScaleAbs(cv2.cvtColor(image[rows], cv2.COLOR_RGB2GRAY), alpha=DIMMED)
        _blend(image[rows], cv2.merge([grey] * 3), saliency[rows], out[rows])
        binary[rows] = cv2.threshold(saliency[rows], 127, 255, cv2.THRESH_BINARY)[1]
    outlines, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, round(min(saliency.shape) / 200))
    cv2.drawContours(out, outlines, -1, ORANGE, thickness, cv2.LINE_AA)
    return out


def cut_out(image: Pixels, saliency: Pixels, despilled: bool = True) -> Pixels:
    """The cutout: the map is the alpha channel, and the colours are the object's own (`despill`).

    Args:
        image: RGB.
        saliency: map, 0 to 255.
        despilled: whether to remove the old background from the colours; else they are those of the image.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 4), RGBA, not premultiplied.

    Raises:
        UserError: the two differ in size.
    """
    _check_sizes(image, saliency)
    out = np.empty((*saliency.shape, 4), np.uint8)
    out[..., 3] = saliency
    if despilled:
        _despill(image, saliency, out)
    else:
        out[..., :3] = image
    return out


def despill(image: Pixels, saliency: Pixels) -> Pixels:
    """The object's own colours where it mixes with the background, by two rounds of blur fusion.

    At its rim a pixel mixes object and background; with the mixed colour a cutout has a seam of its old background.
    Pixels with a map of 255 keep their colour exactly.

    Source: Forte, "Approximate Fast Foreground Colour Estimation" (ICIP 2021): the object's colour is the
    mean of its surroundings weighted by alpha, corrected by what the mixture leaves unexplained.
    Differs from it: the radii follow the image's size (there 90 and 6 pixels). In an image of more than half a
    megapixel the means are those of cells of several pixels: they are smooth, and a large image takes less time.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).

    Raises:
        UserError: the two differ in size.
    """
    _check_sizes(image, saliency)
    out = np.empty_like(image)
    _despill(image, saliency, out)
    return out


def on_background(image: Pixels, saliency: Pixels, background: Pixels | Colour, despilled: bool = True) -> Pixels:
    """The cutout on another background, for files without alpha.

    Args:
        image: RGB.
        saliency: map, 0 to 255.
        background: RGB of the image's size, see `fit_background`, or a plain colour.
        despilled: see `cut_out`.

    Shapes:
        image: (H, W, 3); saliency: (H, W); background: (H, W, 3) or a colour; returns: (H, W, 3).

    Raises:
        UserError: the sizes differ.
    """
    _check_sizes(image, saliency)
    out = despill(image, saliency) if despilled else image.copy()
    if isinstance(background, np.ndarray):
        _check_sizes(background, saliency)
    for rows in _strips(saliency):
        behind = background[rows] if isinstance(background, np.ndarray) else np.full_like(out[rows], background)
        _blend(out[rows], behind, saliency[rows], out[rows])
    return out


def blurred_background(image: Pixels, saliency: Pixels) -> Pixels:
    """The image's own background, out of focus, without a trace of the object around its place.

    The blur is a mean weighted by the background's share of each pixel. It is computed on a small copy.

    Shapes:
        image: (H, W, 3); saliency: (H, W); returns: (H, W, 3).

    Raises:
        UserError: the two differ in size.
    """
    _check_sizes(image, saliency)
    height, width = saliency.shape
    scale = min(1.0, BLUR_SIDE / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    colours = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = 1 - cv2.resize(saliency, small, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    share = np.maximum(share, np.float32(1e-4))  # where all is object, the mean of what there is
    deviation = max(1.0, BLURRED * max(small))
    weighted = cv2.GaussianBlur(colours * share[..., None], (0, 0), deviation)
    mean = weighted / cv2.GaussianBlur(share, (0, 0), deviation)[..., None]
    blurred = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
    return _pixels(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR))


def fit_background(background: Pixels, size: tuple[int, int]) -> Pixels:
    """A background image scaled to cover `size`, the middle of it.

    Args:
        background: RGB.
        size: height and width of the result.

    Shapes:
        background: (h, w, 3); returns: (H, W, 3).
    """
    height, width = size
    old_height, old_width = background.shape[:2]
    scale = max(height / old_height, width / old_width)
    rows, columns = min(old_height, round(height / scale)) or 1, min(old_width, round(width / scale)) or 1
    top, left = (old_height - rows) // 2, (old_width - columns) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.ascontiguousarray(background[top : top + rows, left : left + columns])
    return _pixels(cv2.resize(part, (width, height), interpolation=method))


def object_box(saliency: Pixels, margin: float = 0.0) -> tuple[slice, slice]:
    """The rows and columns that hold the object, for `--crop`; all of them where the map shows none.

    Args:
        saliency: map, 0 to 255.
        margin: to add on each side, as a share of the longer side of the box, in [0, 1].

    Shapes:
        saliency: (H, W).
    """
    x, y, width, height = cv2.boundingRect(cv2.threshold(saliency, OBJECT - 1, 255, cv2.THRESH_BINARY)[1])
    if not width:
        return slice(0, saliency.shape[0]), slice(0, saliency.shape[1])
    extra = round(margin * max(width, height))
    top, left = max(0, y - extra), max(0, x - extra)
    return slice(top, min(saliency.shape[0], y + height + extra)), slice(
        left, min(saliency.shape[1], x + width + extra)
    )


def _despill(image: Pixels, saliency: Pixels, out: Pixels) -> None:
    """Writes the object's colours into the first three channels of `out`, a strip at a time on each core."""
    cell = max(1, ceil((saliency.size / CELLS) ** 0.5))
    fronts, backs = _mean_colours(image, saliency, cell)

    def write(rows: slice) -> None:
        front, back = (_enlarged(means, rows, cell, saliency.shape) for means in (fronts, backs))
        out[rows, :, :3] = np.rint(_corrected(image[rows].astype(np.float32), _shares(saliency[rows]), front, back))

    strips = list(_strips(saliency))
    if len(strips) == 1:
        write(strips[0])
        return
    with ThreadPoolExecutor(usable_cores(), "strip") as threads:
        list(threads.map(write, strips))


def _mean_colours(image: Pixels, saliency: Pixels, cell: int) -> tuple[Colours, Colours]:
    """The object's and the background's mean colour around each cell of `cell` x `cell` pixels; (h, w, 3) each."""
    colours, shares, products = _cells(image, saliency, cell)
    front, back = products, colours - products
    for part in SPREADS:
        side = 2 * max(1, round(part * min(saliency.shape) / cell)) + 1
        share = _blurred(shares, side)
        front, back = _blurred(front, side), _blurred(back, side)
        front /= share + np.float32(1e-5)
        back /= 1 - share + np.float32(1e-5)
        if part != SPREADS[-1]:
            front = _corrected(colours, shares, front, back)
            front *= shares
            back *= 1 - shares
    return front, back


def _cells(image: Pixels, saliency: Pixels, cell: int) -> tuple[Colours, Colours, Colours]:
    """Means over cells of the image, of the map from 0 to 1, and of their product; (h, w, 3) each.

    At the right and lower border, where the rest of a cell is outside, the last pixels are repeated.
    """
    if cell == 1:
        colours, shares = image.astype(np.float32), _shares(saliency)
        return colours, shares, colours * shares
    height, width = saliency.shape
    parts: list[tuple[Colours, Colours, Colours]] = []
    step = max(cell, STRIP // width // cell * cell)  # rows of a strip: of whole cells
    for top in range(0, height, step):
        rows = slice(top, min(height, top + step))
        weight = cv2.merge([saliency[rows]] * 3)
        planes = image[rows], weight, cv2.multiply(image[rows], weight, scale=1 / 255)
        colours, shares, products = (_reduced(_pixels(plane), cell) for plane in planes)
        parts.append((colours, shares / np.float32(255), products))
    first, second, third = (np.concatenate(planes) for planes in zip(*parts, strict=True))
    return first, second, third


def _reduced(plane: Pixels, cell: int) -> Colours:
    """The mean of each cell of a plane; (H, W, 3) to (ceil(H / cell), ceil(W / cell), 3)."""
    height, width = plane.shape[:2]
    rows, columns = -(-height // cell), -(-width // cell)
    below, right = rows * cell - height, columns * cell - width
    whole = cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return _colours(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA))


def _enlarged(means: Colours, rows: slice, cell: int, size: tuple[int, ...]) -> Colours:
    """Some rows of the means at the image's size, bilinear; (n, W, 3)."""
    if cell == 1:
        return means[rows]
    place = np.clip((np.arange(rows.start, rows.stop) + 0.5) / cell - 0.5, 0, len(means) - 1)
    above = place.astype(np.intp)
    weight = (place - above).astype(np.float32)[:, None, None]
    below = np.minimum(above + 1, len(means) - 1)
    mixed = means[above] * (1 - weight) + means[below] * weight
    wide = cv2.resize(mixed, (means.shape[1] * cell, len(mixed)), interpolation=cv2.INTER_LINEAR)
    return _colours(wide[:, : size[1]])


def _corrected(colours: Colours, shares: Colours, front: Colours, back: Colours) -> Colours:
    """The mean colour of the front, corrected by what the mixture of both means leaves unexplained; (h, W, 3)."""
    unexplained = _colours(colours - shares * front)
    unexplained -= (1 - shares) * back
    unexplained *= shares
    unexplained += front
    return np.clip(unexplained, 0, 255, out=unexplained)


def _shares(saliency: Pixels) -> Colours:
    """The map from 0 to 1, once for each channel; (h, W) to (h, W, 3)."""
    return _colours(cv2.merge([saliency] * 3).astype(np.float32) / np.float32(255))


def _blurred(plane: Colours, side: int) -> Colours:
    return _colours(cv2.blur(plane, (side, side)))


def _strips(saliency: Pixels) -> Iterator[slice]:
    """Slices that cover all rows, each of about `STRIP` pixels."""
    height, width = saliency.shape
    rows = max(STRIP // width, 1)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def _blend(front: Pixels, back: cv2.typing.MatLike, saliency: Pixels, out: Pixels) -> None:
    """`front` where the map is 255, `back` where it is 0, and between them in proportion; (h, W, 3)."""
    weight = cv2.merge([saliency] * 3)
    seen = cv2.multiply(front, weight, scale=1 / 255)
    out[...] = cv2.add(seen, cv2.multiply(back, cv2.bitwise_not(weight), scale=1 / 255))


def _colours(array: cv2.typing.MatLike) -> Colours:
    return np.asarray(array, dtype=np.float32)


def _pixels(array: cv2.typing.MatLike) -> Pixels:
    return np.asarray(array, dtype=np.uint8)


def _check_sizes(image: Pixels, saliency: Pixels) -> None:
    if image.shape[:2] != saliency.shape:
        raise UserError(f"image {image.shape[:2]} and map {saliency.shape} differ in size (height, width)")
