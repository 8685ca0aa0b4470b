"""Generated scenes with exact masks, for training and search without a dataset.

    python -m data.synthetic DIR --count 2000 --size 256 --seed 0

The foreground is one to three objects. Each covers 2 to 40 % of the image, and its colour is drawn to differ
from its surroundings by 40 in CIE Lab. Everything else is background: clutter, faint shapes (at most a tenth
brighter or darker than their surroundings), specks (each below 0.25 % of the image) and shadows.

The scenes are our own; no published number depends on them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.errors import DataError
from data.image_io import Pixels, write_jpeg, write_png
from data.shapes import Placement, Plane, Silhouette, ellipse, polygon, random_silhouette, rasterise
from data.textures import ColourImage, Palette, clouds, coloured, random_texture
from settings import parser as config
from utils.errors import exit_on_user_error

_DIFFERENCE = 40.0
_SMALLEST, _LARGEST = 0.02, 0.4


class Scene(NamedTuple):
    """An image (H, W, 3) uint8 RGB and its mask (H, W) uint8, 0 or 255."""

    image: Pixels
    mask: Pixels


class _Light(NamedTuple):
    """Where the light comes from (x, y), and how soft and dark its shadows are."""

    x: float
    y: float
    softness: float
    strength: float


def scene(rng: np.random.Generator, size: int) -> Scene:
    """Draws one scene; equal generators give equal scenes.

    Shapes:
        returns: (size, size, 3) uint8 and (size, size) uint8.

    Raises:
        DataError: the size is below 32 pixels.
    """
    if size < 32:
        raise DataError(f"size is {size}; a scene needs at least 32 pixels a side.")
    image = _background(rng, size)
    image = _add_faint_shapes(rng, image)
    image = _add_specks(rng, image)
    if rng.random() < 0.4:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.004, 0.02) * size).astype(np.float32)
    covered = np.zeros((size, size), np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = _Light(np.cos(angle), np.sin(angle), rng.uniform(0.005, 0.05), rng.uniform(0, 0.6))
    for alpha in _place_objects(rng, size):
        image = _add_object(rng, image, alpha, light)
        covered = np.maximum(covered, alpha)
    image = _camera(rng, image)
    return Scene(image, np.where(covered >= 0.5, 255, 0).astype(np.uint8))


def write_scenes(root: str | Path, count: int, size: int = 256, seed: int = 0) -> Path:
    """Writes scenes as a dataset that `find_pairs` finds: `images/*.jpg` and `masks/*.png`.

    Scene number i depends on the seed and on i only, so a larger dataset begins with the smaller one.

    Args:
        root: folder to write to; must not hold a dataset already.
        count: number of scenes.
        size: side, pixels.
        seed: of all scenes.

    Returns:
        The root.

    Raises:
        DataError: the count is below 1, or the folder already holds files.
    """
    root = Path(root)
    if count < 1:
        raise DataError(f"count is {count}; give at least 1 scene.")
    for folder in (root / "images", root / "masks"):
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder}: holds files already. Choose a new folder or delete this one.")
    for index in tqdm(range(count), "drawing", unit="scene", disable=None, leave=False):
        image, mask = scene(np.random.default_rng([seed, index]), size)
        write_jpeg(root / "images" / f"{index:06}.jpg", image)
        write_png(root / "masks" / f"{index:06}.png", mask)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes scenes from the command line."""
    parser = config.arguments(__doc__, "python -m data.synthetic")
    parser.add_argument("root", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=1000, help="number of scenes")
    parser.add_argument("--size", type=int, default=256, help="side of the square, pixels")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal scenes")
    options = parser.parse_args(arguments)
    root = write_scenes(options.root, options.count, options.size, options.seed)
    print(f"{options.count} scenes of {options.size}x{options.size} in {root}")
    return 0


def _background(rng: np.random.Generator, size: int) -> ColourImage:
    kind = rng.integers(4)
    palette = _muted_palette(rng)
    if kind == 0:
        image = coloured(clouds(rng, size), palette)
    elif kind == 1:
        image = _horizon(rng, size)
    elif kind == 2:
        image = _seen_slanted(rng, random_texture(rng, palette, size))
    else:
        image = _leaves(rng, palette, size)
    grain = 1 + rng.uniform(0.02, 0.15) * (clouds(rng, size)[..., None] - 0.5)
    return np.clip(image * grain, 0, 1)


def _horizon(rng: np.random.Generator, size: int) -> ColourImage:
    """Two textures, one above the other, with an uneven border."""
    upper = random_texture(rng, _muted_palette(rng), size)
    lower = coloured(clouds(rng, size), _muted_palette(rng))
    rows = np.arange(size, dtype=np.float32)[:, None] / size
    border = rng.uniform(0.3, 0.7) + rng.uniform(0, 0.15) * (clouds(rng, size)[:1] - 0.5)
    below = np.clip((rows - border) * rng.uniform(20, 200) + 0.5, 0, 1)[..., None]
    return upper * (1 - below) + lower * below


def _seen_slanted(rng: np.random.Generator, image: ColourImage) -> ColourImage:
    """A perspective view of a texture."""
    size = image.shape[0]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    inwards = (0.5 - corners) * rng.uniform(0, 0.5, (4, 1)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform((corners + inwards) * size, corners * size)
    warped = cv2.warpPerspective(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return warped.astype(np.float32)


def _leaves(rng: np.random.Generator, palette: Palette, size: int) -> ColourImage:
    """Clutter: many overlapping shapes of similar colours."""
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = palette.mean(0)
    for _ in range(int(rng.integers(80, 300))):
        outline = (ellipse if rng.random() < 0.5 else polygon)(rng)[0].points
        radius = 0.015 * rng.uniform(0.05, 1) ** -0.8
        where = Placement(rng.random(), rng.random(), radius, rng.uniform(0, 2 * np.pi))
        points = np.round(where.apply(outline) * size * 16).astype(np.int32)
        colour = palette[rng.integers(len(palette))] * rng.uniform(0.85, 1.15)
        cv2.fillPoly(canvas, [points], colour.tolist(), cv2.LINE_AA, shift=4)
    return np.clip(canvas, 0, 1)


def _add_faint_shapes(rng: np.random.Generator, image: ColourImage) -> ColourImage:
    for _ in range(int(rng.integers(0, 6))):
        where = Placement(rng.random(), rng.random(), rng.uniform(0.05, 0.3), rng.uniform(0, 2 * np.pi))
        alpha = rasterise(random_silhouette(rng), where, image.shape[0])[..., None]
        image = image * (1 + rng.uniform(-0.1, 0.1) * alpha)
    return np.clip(image, 0, 1)


def _add_specks(rng: np.random.Generator, image: ColourImage) -> ColourImage:
    for _ in range(int(rng.integers(0, 15))):
        # A quarter of a per cent is a disc of radius 0.028.
        where = Placement(rng.random(), rng.random(), rng.uniform(0.006, 0.025), rng.uniform(0, 2 * np.pi))
        alpha = rasterise(random_silhouette(rng), where, image.shape[0])[..., None]
        image = image * (1 - alpha) + _colour(rng) * alpha
    return image


def _place_objects(rng: np.random.Generator, size: int) -> list[Plane]:
    """The area that each object covers, (size, size): one to three objects of 2 to 40 % of the image each."""
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    shape = random_silhouette(rng)
    alike = rng.random() < 0.4
    placed: list[Plane] = []
    for _ in range(50):
        alpha = _place(rng, shape, size, count)
        apart = all(np.minimum(alpha, other).sum() < 0.2 * alpha.sum() for other in placed)
        if apart and _SMALLEST <= alpha.mean() <= _LARGEST:
            placed.append(alpha)
        if len(placed) == count:
            return placed
        if not (alike and apart):
            shape = random_silhouette(rng)
    return placed or [rasterise(ellipse(rng), Placement(0.5, 0.5, 0.3, 0), size)]


def _place(rng: np.random.Generator, shape: Silhouette, size: int, count: int) -> Plane:
    x, y = np.clip(rng.normal(0.5, 0.1 + 0.06 * count, 2), 0.15, 0.85)
    radius = rng.uniform(0.2, 0.48) / count**0.4
    # Mostly upright, as objects in real images are.
    angle = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    return rasterise(shape, Placement(x, y, radius, angle), size)


def _add_object(rng: np.random.Generator, image: ColourImage, alpha: Plane, light: _Light) -> ColourImage:
    """Adds a shadow and an object to the image; the texture of the object is shaded as if it were round."""
    size = image.shape[0]
    palette = _standing_out(rng, image, alpha)
    surface = random_texture(rng, palette, size) * _shading(rng, alpha, light)[..., None]
    moved = np.array([[1, 0, -light.x * 0.05 * size], [0, 1, -light.y * 0.05 * size]])
    shadow = cv2.warpAffine(alpha, moved, (size, size))
    shadow = cv2.GaussianBlur(shadow, (0, 0), light.softness * size)[..., None]
    shadowed = image * (1 - light.strength * shadow)
    return (shadowed * (1 - alpha[..., None]) + np.clip(surface, 0, 1) * alpha[..., None]).astype(np.float32)


def _shading(rng: np.random.Generator, alpha: Plane, light: _Light) -> Plane:
    """Brighter towards the light: the slope of a rounded height, about 1."""
    inside = cv2.copyMakeBorder((alpha >= 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = max(float(depth.max()) * rng.uniform(0.5, 1.2), 1.0)
    height = cv2.GaussianBlur(np.sqrt(np.clip(depth / reach, 0, 1)), (0, 0), max(1.0, reach / 6)) * reach
    slope_y, slope_x = np.gradient(height)
    return np.clip(1 - rng.uniform(0.1, 0.5) * (light.x * slope_x + light.y * slope_y), 0.4, 1.6)


def _standing_out(rng: np.random.Generator, image: ColourImage, alpha: Plane) -> Palette:
    """Two colours that differ from the surroundings of an area by 40 in Lab, else the two that differ most.

    Light and shading reduce the difference afterwards.
    """
    wide = cv2.dilate(alpha, np.ones((15, 15), np.uint8))
    around = _lab(np.average(image.reshape(-1, 3), axis=0, weights=wide.ravel() + 1e-6))
    colours = np.stack([_colour(rng) for _ in range(40)])
    differences = np.array([np.linalg.norm(_lab(colour) - around) for colour in colours])
    good = np.flatnonzero(differences >= _DIFFERENCE)
    if len(good) < 2:
        good = np.argsort(differences)[-2:]
    first, second = colours[good[:2]]
    if rng.random() < 0.5:  # two shades of one colour
        second = np.clip(first * rng.uniform(0.7, 1.3), 0, 1)
    return np.stack([first, second])


def _lab(colour: NDArray[np.floating]) -> NDArray[np.float32]:
    pixel = colour.astype(np.float32).reshape(1, 1, 3)
    return cv2.cvtColor(pixel, cv2.COLOR_RGB2LAB).reshape(3).astype(np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return _from_hsv(rng.random(), rng.beta(2, 1.5), rng.uniform(0.15, 1))


def _muted_palette(rng: np.random.Generator) -> Palette:
    """Three or four neighbouring colours, none of them vivid."""
    hue, saturation, value = rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.85)
    colours = [
        _from_hsv(hue + rng.normal(0, 0.04), saturation + rng.normal(0, 0.08), value + rng.normal(0, 0.12))
        for _ in range(int(rng.integers(3, 5)))
    ]
    return np.stack(colours)


def _from_hsv(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    hsv = np.array([[[hue % 1 * 360, np.clip(saturation, 0, 1), np.clip(value, 0, 1)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(3).astype(np.float32)


def _camera(rng: np.random.Generator, image: ColourImage) -> Pixels:
    """Uneven light, a slightly blurred lens and sensor noise."""
    size = image.shape[0]
    y, x = np.indices((size, size), np.float32) / size - 0.5
    uneven = 1 + rng.uniform(-0.4, 0.4) * x + rng.uniform(-0.4, 0.4) * y - rng.uniform(0, 0.5) * (x**2 + y**2)
    lit = np.clip(image * uneven[..., None], 0, 1) ** rng.uniform(0.8, 1.25)
    if rng.random() < 0.5:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.3, 0.9))
    noisy = lit + rng.uniform(0, 0.03) * rng.standard_normal(lit.shape, dtype=np.float32)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
