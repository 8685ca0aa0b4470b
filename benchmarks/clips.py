"""Clips made of still images, whose motion and true maps are known: for the benchmark and the tests of smoothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from data.image_io import Pixels
from inference.compositing import blurred_background, on_background

Motion = Literal["pan", "zoom", "shake", "object"]
"""What moves: the view sideways; towards the centre; in small random steps and turns; or the object alone."""
MOTIONS: tuple[Motion, ...] = get_args(Motion)
Places = NDArray[np.float32]
Plane = NDArray[np.float32]

WINDOW = 0.7  # sides of a frame, as a share of those of the image
NOISE = 2.0  # deviation of the noise of every frame, grey levels


@dataclass(frozen=True)
class StillClip:
    """A clip.

    Attributes:
        frames: (h, w, 3) uint8 each.
        masks: (h, w) each, true maps in [0, 1].
        sources: for every frame but the first, the place (x, y) in the frame before that each pixel comes from;
            (h, w, 2), negative where it was not visible.
    """

    frames: tuple[Pixels, ...]
    masks: tuple[Plane, ...]
    sources: tuple[Places, ...]


def make_clip(image: Pixels, mask: Pixels, motion: Motion, length: int, seed: int = 0) -> StillClip:
    """A clip of an image; equal seeds give equal clips.

    Args:
        mask: of its object.
        motion: what moves.
        length: number of frames, two or more.
        seed: of the noise and the shaking.

    Shapes:
        image: (H, W, 3); mask: (H, W), 0 to 255.
    """
    rng = np.random.default_rng(seed)
    drawn = _object_moves(image, mask, length) if motion == "object" else _view_moves(image, mask, motion, length, rng)
    frames = [
        np.clip(np.rint(frame + NOISE * rng.standard_normal(frame.shape)), 0, 255).astype(np.uint8)
        for frame in drawn.frames
    ]
    return StillClip(tuple(frames), drawn.masks, drawn.sources)


def flicker(maps: Sequence[Plane], clip: StillClip) -> float:
    """Mean absolute difference of consecutive maps where the known motion is undone, of pixels seen in both."""
    means = []
    for before, after, source in zip(maps[:-1], maps[1:], clip.sources, strict=True):
        seen = (source >= 0).all(axis=2)
        means.append(float(np.abs(after - _at(before, source))[seen].mean()))
    return float(np.mean(means))


def error(maps: Sequence[Plane], clip: StillClip) -> float:
    """Mean absolute error of all maps."""
    return float(np.mean([np.abs(one - mask).mean() for one, mask in zip(maps, clip.masks, strict=True)]))


def _view_moves(image: Pixels, mask: Pixels, motion: Motion, length: int, rng: np.random.Generator) -> StillClip:
    height, width = image.shape[:2]
    size = round(width * WINDOW), round(height * WINDOW)
    steps = rng.standard_normal((length, 3)).clip(-2, 2)
    poses: dict[str, Callable[[int], tuple[float, float, float, float]]] = {  # centre, scale (shares), degrees
        "pan": lambda i: (0.35 + 0.3 * i / (length - 1), 0.5, WINDOW, 0.0),
        "zoom": lambda i: (0.5, 0.5, 1 - 0.4 * i / (length - 1), 0.0),
        "shake": lambda i: (0.5 + 0.012 * steps[i, 0], 0.5 + 0.012 * steps[i, 1], 0.9, steps[i, 2]),
    }
    views = [_view(poses[motion](i), (width, height), size) for i in range(length)]
    sources = [_moved(np.linalg.inv(before) @ after, size) for before, after in pairwise(views)]
    masks = [_seen(mask, view, size).astype(np.float32) / np.float32(255) for view in views]
    return StillClip(tuple(_seen(image, view, size) for view in views), tuple(masks), tuple(sources))


def _view(pose: tuple[float, float, float, float], image: tuple[int, int], frame: tuple[int, int]) -> NDArray:
    """The matrix (3, 3) from places in a frame to places in the image."""
    x, y, scale, degrees = pose
    turn = np.deg2rad(degrees)
    step = scale * image[0] / frame[0]
    matrix = np.eye(3)
    matrix[:2, :2] = step * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([x * (image[0] - 1), y * (image[1] - 1)])
    matrix[:2, 2] = centre - matrix[:2, :2] @ (np.array(frame) / 2 - 0.5)
    return matrix


def _seen(image: Pixels, view: NDArray, size: tuple[int, int]) -> Pixels:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, view[:2], size, flags=flags, borderMode=cv2.BORDER_REFLECT_101).astype(np.uint8)


def _moved(matrix: NDArray, size: tuple[int, int]) -> Places:
    """Where each pixel comes from by a matrix of homogeneous places; -1 where it was out of view."""
    places = _places(size) @ matrix[:2, :2].T + matrix[:2, 2]
    seen = np.logical_and(places >= 0, places <= np.array(size) - 1).all(axis=2, keepdims=True)
    return np.where(seen, places, -1).astype(np.float32)


def _object_moves(image: Pixels, mask: Pixels, length: int) -> StillClip:
    """The object crosses its own background, which is blurred so that nothing of the object is left there."""
    behind = blurred_background(image, mask)
    size = image.shape[1], image.shape[0]
    reach = 0.15 * size[0]
    frames, masks = [], []
    for i in range(length):
        shift = np.array([[1, 0, reach * (1 - 2 * i / (length - 1))], [0, 1, 0]])
        moved = _seen_shifted(image, shift, size, cv2.BORDER_REPLICATE)
        alpha = _seen_shifted(mask, shift, size, cv2.BORDER_CONSTANT)
        frames.append(on_background(moved, alpha, behind, despilled=False))
        masks.append(alpha.astype(np.float32) / np.float32(255))
    step = 2 * reach / (length - 1)
    sources = [_object_sources(before, after, step) for before, after in pairwise(masks)]
    return StillClip(tuple(frames), tuple(masks), tuple(sources))


def _seen_shifted(image: Pixels, shift: NDArray, size: tuple[int, int], border: int) -> Pixels:
    return cv2.warpAffine(image, shift, size, flags=cv2.INTER_LINEAR, borderMode=border).astype(np.uint8)


def _object_sources(before: Plane, after: Plane, step: float) -> Places:
    """Pixels of the object come from `step` to the right, others from their own place; not if the other was there."""
    size = after.shape[1], after.shape[0]
    own = after >= 0.5
    places = _places(size) + np.where(own[..., None], [step, 0], [0, 0])
    same = (_at(before, places.astype(np.float32)) >= 0.5) == own
    seen = same & (places[..., 0] <= size[0] - 1)
    return np.where(seen[..., None], places, -1).astype(np.float32)


def _places(size: tuple[int, int]) -> NDArray[np.float64]:
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.stack([columns, rows], axis=2).astype(np.float64)


def _at(plane: Plane, places: Places) -> Plane:
    return cv2.remap(plane, places, np.empty(0, np.float32), cv2.INTER_LINEAR).astype(np.float32)
