"""What is made of an image and its saliency map: the cutout, its background, and the overlay.

Everything here maps 8-bit arrays to 8-bit arrays and imports neither PyTorch nor files of ours but `utils`, so that
cutout.py and test.py share it. Large images are composed in strips of rows: beside its inputs and its result a
function needs memory for one strip, and the result equals that of a single strip.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]
Sums = NDArray[np.int32]
Rows = NDArray[np.intp]
Colour = tuple[int, int, int]

ORANGE: Colour = (230, 159, 0)  # of the colour-blind safe palette of Okabe and Ito
DIMMED = 0.35  # brightness that the overlay leaves to the background
SPREADS = (1 / 8, 1 / 64)  # radii of the two rounds of despill, as shares of the shorter side
STRIP = 3 << 18  # pixels of a strip
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
    Differs from it: the radii follow the image's size (there 90 and 6 pixels).

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
    """Writes the object's colours into the first three channels of `out`, a strip and a channel at a time."""
    far, close = (max(1, round(share * min(saliency.shape))) for share in SPREADS)
    weights = _ColumnSums(lambda at: saliency[at], far, len(saliency))
    planes = [image[..., channel] for channel in range(3)]
    backs = [_ColumnSums(plane.__getitem__, far, len(saliency)) for plane in planes]
    fronts = [_ColumnSums(partial(_products, plane, saliency), far, len(saliency)) for plane in planes]
    for rows in _strips(saliency):
        inner = _grown(rows, close, len(saliency))  # rows whose first round the second round reads
        following = max(0, rows.stop - close)  # where `inner` begins in the next strip
        wanted = _within(rows, inner)
        alpha = saliency[inner].astype(np.float32) / np.float32(255)
        far_share, close_share = _box_mean(weights(inner, following), far), _mean(alpha, wanted, close)
        for channel, plane in enumerate(planes):
            front_sums, back_sums = fronts[channel](inner, following), backs[channel](inner, following)
            back_sums *= 255
            back_sums -= front_sums
            front = _box_mean(front_sums, far)
            del front_sums
            back = _box_mean(back_sums, far)
            del back_sums
            front /= far_share + np.float32(255e-5)
            back /= 255 - far_share + np.float32(255e-5)
            front = _corrected(plane[inner], alpha, front, back)
            front *= alpha
            back *= 1 - alpha
            front, back = _mean(front, wanted, close), _mean(back, wanted, close)
            front /= close_share + np.float32(1e-5)
            back /= 1 - close_share + np.float32(1e-5)
            out[rows, :, channel] = np.rint(_corrected(plane[rows], alpha[wanted], front, back))


def _corrected(colour: Pixels, alpha: Plane, front: Plane, back: Plane) -> Plane:
    """The mean colour of the front, corrected by what the mixture of both means leaves unexplained; (h, W)."""
    unexplained = np.asarray(colour - alpha * front, np.float32)
    unexplained -= (1 - alpha) * back
    unexplained *= alpha
    unexplained += front
    np.clip(unexplained, 0, 255, out=unexplained)
    return unexplained


def _products(plane: Pixels, saliency: Pixels, rows: Rows) -> NDArray[np.uint16]:
    """Rows of a channel times the map, (n, W)."""
    return plane[rows] * saliency[rows].astype(np.uint16)


class _ColumnSums:
    """For each row of a plane, the sum over the rows that are at most `reach` away, mirrored at the borders.

    A blur that reaches far would need all those rows in floating point at once. Whole numbers are summed exactly while
    the window moves on, so that strips give what the whole image gives.

    Args:
        plane: gives rows of a plane by their numbers, (n, W), values up to 255 * 255.
        reach: in rows.
        height: rows of the whole plane.
    """

    def __init__(self, plane: Callable[[Rows], NDArray[Any]], reach: int, height: int) -> None:
        self._plane, self._reach, self._last = plane, reach, height - 1
        self._first = self._rows(-reach, reach + 1).sum(axis=0, dtype=np.int32)  # of the row that comes next

    def __call__(self, rows: slice, following: int) -> Sums:
        """The sums of some rows, (h, W); the next call begins with row `following`, which is one of them or the end."""
        reach = self._reach
        sums = np.empty((rows.stop - rows.start, len(self._first)), np.int32)
        sums[0] = self._first
        entering = self._rows(rows.start + 1 + reach, rows.stop + reach)
        np.subtract(entering, self._rows(rows.start - reach, rows.stop - 1 - reach), out=sums[1:], dtype=np.int32)
        np.cumsum(sums, axis=0, out=sums)
        self._first = sums[min(following, rows.stop - 1) - rows.start].copy()
        return sums

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        return self._plane(self._last - np.abs(self._last - np.abs(np.arange(start, stop))))


def _box_mean(sums: Sums, reach: int) -> Plane:
    """The mean over a box, from the sums over its columns; (h, W)."""
    side = 2 * reach + 1
    mean = cv2.blur(sums.astype(np.float32), (side, 1)).astype(np.float32, copy=False)
    mean /= side
    return mean


def _mean(plane: Plane, rows: slice, reach: int) -> Plane:
    """The mean over a box that reaches so far to each side, of some rows of a plane."""
    return cv2.blur(plane, (2 * reach + 1, 2 * reach + 1))[rows].astype(np.float32)  # a copy: the rest is freed


def _strips(saliency: Pixels) -> Iterator[slice]:
    """Slices that cover all rows, each of about `STRIP` pixels."""
    height, width = saliency.shape
    rows = max(STRIP // width, 1)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def _grown(rows: slice, by: int, height: int) -> slice:
    return slice(max(0, rows.start - by), min(height, rows.stop + by))


def _within(rows: slice, outer: slice) -> slice:
    """The same rows, counted from the first of `outer`."""
    return slice(rows.start - outer.start, rows.stop - outer.start)


def _blend(front: Pixels, back: cv2.typing.MatLike, saliency: Pixels, out: Pixels) -> None:
    """`front` where the map is 255, `back` where it is 0, and between them in proportion; (h, W, 3)."""
    weight = cv2.merge([saliency] * 3)
    seen = cv2.multiply(front, weight, scale=1 / 255)
    out[...] = cv2.add(seen, cv2.multiply(back, cv2.bitwise_not(weight), scale=1 / 255))


def _pixels(array: cv2.typing.MatLike) -> Pixels:
    return np.asarray(array, dtype=np.uint8)


def _check_sizes(image: Pixels, saliency: Pixels) -> None:
    if image.shape[:2] != saliency.shape:
        raise UserError(f"image {image.shape[:2]} and map {saliency.shape} differ in size (height, width)")
