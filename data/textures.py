"""Random textures of generated scenes: a pattern in [0, 1], mapped to the colours of a palette."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating]
ColourImage = NDArray[np.floating]
Palette = NDArray[np.floating]


def random_texture(rng: np.random.Generator, palette: Palette, size: int) -> ColourImage:
    """One of the patterns below in the colours of a palette.

    Shapes:
        palette: (N, 3), RGB in [0, 1].
        returns: (size, size, 3) float32, RGB in [0, 1].
    """
    names = sorted(PATTERNS)
    return coloured(PATTERNS[names[int(rng.integers(len(names)))]](rng, size), palette)


def coloured(pattern: Plane, palette: Palette) -> ColourImage:
    """Maps 0 to the first colour of the palette, 1 to the last, and interpolates between them.

    Shapes:
        pattern: (H, W) in [0, 1].
        palette: (N, 3).
        returns: (H, W, 3) float32.
    """
    stops = np.linspace(0, 1, len(palette))
    channels = [np.interp(pattern, stops, palette[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def plain(rng: np.random.Generator, size: int) -> Plane:
    """Nearly one colour, with weak noise."""
    return np.clip(0.5 + 0.15 * (clouds(rng, size) - 0.5), 0, 1)


def gradient(rng: np.random.Generator, size: int) -> Plane:
    """From one side to the other, or from a centre outwards."""
    u, v = _turned(rng, size)
    if rng.random() < 0.5:
        return _stretched(u)
    return _stretched(np.hypot(u - rng.uniform(-0.3, 0.3), v - rng.uniform(-0.3, 0.3)))


def stripes(rng: np.random.Generator, size: int) -> Plane:
    """Bands, straight or wavy, hard or soft."""
    u, v = _turned(rng, size)
    bands = np.sin(2 * np.pi * (rng.uniform(4, 16) * u + rng.uniform(0, 0.6) * np.sin(rng.uniform(4, 12) * v)))
    return np.clip(0.5 + rng.uniform(0.5, 4) * bands, 0, 1)


def checker(rng: np.random.Generator, size: int) -> Plane:
    """Two kinds of squares."""
    u, v = _turned(rng, size)
    count = rng.uniform(4, 14)
    return ((np.floor(u * count) + np.floor(v * count)) % 2).astype(np.float32)


def clouds(rng: np.random.Generator, size: int) -> Plane:
    """Noise of all scales; finer scales are weaker."""
    octaves = [2**k for k in range(1, 8) if 2**k <= size]
    fall = rng.uniform(0.45, 0.8)
    total = np.zeros((size, size), np.float32)
    for level, count in enumerate(octaves):
        grid = rng.random((count, count), dtype=np.float32)
        total += fall**level * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return _stretched(total)


def marble(rng: np.random.Generator, size: int) -> Plane:
    """Bands distorted by noise: wood, marble, water."""
    u, v = _turned(rng, size)
    bent = rng.uniform(2, 8) * u + rng.uniform(0.5, 2) * clouds(rng, size) + 0.3 * v
    return (0.5 + 0.5 * np.sin(2 * np.pi * bent)).astype(np.float32)


def spots(rng: np.random.Generator, size: int) -> Plane:
    """Dots of one colour on another."""
    canvas = np.zeros((size, size), np.uint8)
    for x, y, radius in rng.random((int(rng.integers(30, 120)), 3)):
        cv2.circle(canvas, (int(x * size), int(y * size)), int((0.01 + 0.03 * radius) * size), 255, -1, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def grain(rng: np.random.Generator, size: int) -> Plane:
    """Fine noise, blurred along one direction: sand or cloth."""
    fine = rng.random((size, size), dtype=np.float32)
    width, height = (int(2 * k + 1) for k in rng.integers(0, 5, 2))
    return _stretched(np.asarray(cv2.blur(fine, (width, height)), np.float32))


PATTERNS: dict[str, Callable[[np.random.Generator, int], Plane]] = {
    pattern.__name__: pattern for pattern in (plain, gradient, stripes, checker, clouds, marble, spots, grain)
}
"""All patterns, by name."""


def _turned(rng: np.random.Generator, size: int) -> tuple[Plane, Plane]:
    """Coordinates in [-0.5, 0.5] along a random direction and across it."""
    y, x = (np.indices((size, size), np.float32) + 0.5) / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _stretched(values: Plane) -> Plane:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-6)).astype(np.float32)
