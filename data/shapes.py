"""Random silhouettes for generated scenes: from plain ellipses to figures with legs, tails and holes.

A silhouette is a list of strokes in a plane where it fills about [-1, 1]. It is drawn last, once it is
known where it goes, so that its edge is as sharp at every size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Plane = NDArray[np.floating]

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Stroke:
    """A filled outline, or a line along points.

    Args:
        points: (N, 2), x to the right and y down.
        width: of the line in the plane's units; 0 fills the outline.
        hole: takes away what was drawn before, instead of adding.
    """

    points: Points
    width: float = 0.0
    hole: bool = False


Silhouette = list[Stroke]


@dataclass(frozen=True)
class Placement:
    """Where a silhouette goes: centre and radius as parts of the image's side, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float

    def apply(self, points: Points) -> Points:
        """(N, 2) points of the plane to the unit square."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = points @ np.array([[cos, sin], [-sin, cos]])
        return _moved(turned * self.radius, self.x, self.y)


def random_silhouette(rng: np.random.Generator) -> Silhouette:
    """One of the kinds below, all equally likely."""
    kinds = sorted(KINDS)
    return KINDS[kinds[int(rng.integers(len(kinds)))]](rng)


def rasterise(silhouette: Silhouette, placement: Placement, size: int) -> Plane:
    """Draws a silhouette with soft edges.

    Shapes:
        returns: (size, size) float32, the part of each pixel that is covered, in [0, 1].
    """
    side = size * _OVERSAMPLING
    canvas = np.zeros((side, side), np.uint8)
    for stroke in silhouette:
        points = np.round(placement.apply(stroke.points) * side).astype(np.int32)
        colour = 0 if stroke.hole else 255
        if stroke.width:
            thickness = max(1, round(stroke.width * placement.radius * side))
            cv2.polylines(canvas, [points], False, colour, thickness)
        else:
            cv2.fillPoly(canvas, [points], colour)
    covered = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return covered.astype(np.float32) / 255


def ellipse(rng: np.random.Generator) -> Silhouette:
    """An ellipse, from a disc to a long one."""
    return [Stroke(_oval(rng.uniform(0.4, 1)))]


def polygon(rng: np.random.Generator) -> Silhouette:
    """An irregular polygon of three to eight corners."""
    corners = int(rng.integers(3, 9))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    return [Stroke(_around(angles, rng.uniform(0.65, 1, corners)))]


def star(rng: np.random.Generator) -> Silhouette:
    """A star of four to nine points."""
    corners = 2 * int(rng.integers(4, 10))
    radii = np.where(np.arange(corners) % 2, rng.uniform(0.4, 0.75), 1.0)
    return [Stroke(_around(np.arange(corners) * 2 * np.pi / corners, radii))]


def blob(rng: np.random.Generator) -> Silhouette:
    """A smooth closed outline with bays."""
    return [Stroke(_wavy(rng, 0.35))]


def ring(rng: np.random.Generator) -> Silhouette:
    """A blob with a hole through it: the hole is background."""
    hole = _wavy(rng, 0.1) * rng.uniform(0.35, 0.65) + rng.uniform(-0.1, 0.1, 2)
    return [Stroke(_wavy(rng, 0.12)), Stroke(hole, hole=True)]


def cup(rng: np.random.Generator) -> Silhouette:
    """A body with a handle, which is a thin part with a hole."""
    wide, taper = rng.uniform(0.5, 0.75), rng.uniform(0.6, 1.05)
    body = np.array([[-wide, -0.8], [wide, -0.8], [wide * taper, 0.8], [-wide * taper, 0.8]])
    handle = _moved(_oval(rng.uniform(0.8, 1.2)) * 0.4, wide, rng.uniform(-0.2, 0.1))
    return [Stroke(np.vstack([handle, handle[:1]]), width=rng.uniform(0.08, 0.18)), Stroke(body)]


def vase(rng: np.random.Generator) -> Silhouette:
    """A bottle or a vase: a smooth profile and its mirror image."""
    knots = rng.uniform(0.12, 0.7, int(rng.integers(4, 7)))
    y = np.linspace(-1, 1, 60)
    sharp = np.interp(y, np.linspace(-1, 1, len(knots)), knots)
    profile = np.convolve(np.pad(sharp, 7, "edge"), np.full(15, 1 / 15), "valid")
    sides = [np.stack([profile, y], 1), np.stack([-profile, y], 1)[::-1]]
    return [Stroke(np.vstack(sides))]


def animal(rng: np.random.Generator) -> Silhouette:
    """A body with a head, thin legs and a tail."""
    strokes = [Stroke(_wavy(rng, 0.1) * (0.65, rng.uniform(0.28, 0.42)))]
    head = _wavy(rng, 0.12) * rng.uniform(0.2, 0.3)
    strokes.append(Stroke(_moved(head, rng.uniform(0.55, 0.75), rng.uniform(-0.5, -0.1))))
    for x in np.linspace(-0.45, 0.45, int(rng.integers(2, 5))):
        leg = np.array([[x, 0.1], [x + rng.uniform(-0.15, 0.15), 0.5], [x + rng.uniform(-0.2, 0.2), 0.95]])
        strokes.append(Stroke(leg, width=rng.uniform(0.07, 0.16)))
    strokes.append(Stroke(_curve(rng, (-0.5, -0.1), (-1.0, rng.uniform(-0.7, 0.4))), width=rng.uniform(0.05, 0.12)))
    return strokes


def flower(rng: np.random.Generator) -> Silhouette:
    """Petals on a thin stem."""
    count = int(rng.integers(5, 10))
    petal = _oval(rng.uniform(0.35, 0.6)) * rng.uniform(0.22, 0.3)
    strokes = [Stroke(_curve(rng, (0, -0.3), (rng.uniform(-0.3, 0.3), 1)), width=rng.uniform(0.06, 0.1))]
    for angle in np.arange(count) * 2 * np.pi / count:
        strokes.append(Stroke(Placement(0, -0.35, 1, angle).apply(_moved(petal, 0.32, 0))))
    return [*strokes, Stroke(_moved(_oval(1) * 0.22, 0, -0.35))]


def tool(rng: np.random.Generator) -> Silhouette:
    """A long handle with a head, as a hammer, a spoon or a racket has."""
    handle = np.array([[0, 1], [0, -0.5]])
    head = (_oval(rng.uniform(0.5, 1)) if rng.random() < 0.5 else polygon(rng)[0].points) * rng.uniform(0.35, 0.55)
    return [Stroke(handle, width=rng.uniform(0.08, 0.2)), Stroke(_moved(head, 0, -0.5))]


KINDS: dict[str, Callable[[np.random.Generator], Silhouette]] = {
    kind.__name__: kind for kind in (ellipse, polygon, star, blob, ring, cup, vase, animal, flower, tool)
}
"""All kinds of silhouettes, by name."""


def _moved(points: Points, x: float, y: float) -> Points:
    return points + np.array([x, y])


def _oval(aspect: float) -> Points:
    return _around(np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)) * (1, aspect)


def _around(angles: NDArray[np.float64], radii: NDArray[np.float64]) -> Points:
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]


def _wavy(rng: np.random.Generator, depth: float) -> Points:
    """A closed outline whose radius is a sum of five waves; about `depth` from the unit circle."""
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    waves = np.arange(2, 7)
    heights = rng.normal(0, depth, len(waves)) / waves
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    radii = 1 + (heights[:, None] * np.cos(waves[:, None] * angles + phases[:, None])).sum(0)
    radii = np.clip(radii, 0.3, None)
    return _around(angles, radii / radii.max())


def _curve(rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float]) -> Points:
    """A bent line between two points (a quadratic Bezier curve)."""
    first, last = np.array(start), np.array(end)
    middle = (first + last) / 2 + rng.normal(0, 0.25, 2)
    t = np.linspace(0, 1, 24)[:, None]
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last
