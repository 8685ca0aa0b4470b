"""Draws the sample images with every `--type` of cutout.py.

python benchmarks/backgrounds.py                     writes docs/backgrounds.jpg
python benchmarks/backgrounds.py --out FILE.jpg
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from PIL import Image

from data.image_io import Pixels, read_image
from inference.compositing import on_background
from inference.contact_sheet import SheetRow, contact_sheet
from inference.cutouts import Style
from inference.onnx_maps import OnnxMaps
from inference.saliency import to_8bit
from settings.parser import arguments
from utils.errors import exit_on_user_error

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data" / "samples"
IMAGES = ("cat.jpg", "flower.jpg", "coffee.jpg")
TYPES = ("rgba", "map", "white", "green", "#ff8000", "blur", "overlay", str(SAMPLES / "rocket.jpg"))
SQUARE = 12  # pixels of the pattern behind a transparent cutout


def main(words: Sequence[str] | None = None) -> int:
    """Draws the sheet."""
    parser = arguments(__doc__, "benchmarks/backgrounds.py")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "backgrounds.jpg", metavar="FILE.jpg")
    target = parser.parse_args(words).out
    maps = OnnxMaps(ROOT / "weights" / "lite.onnx")
    rows = []
    for name in IMAGES:
        image = read_image(SAMPLES / name)
        saliency = to_8bit(maps(image))
        rows.append(SheetRow(name, [image, *(panel(kind, image, saliency) for kind in TYPES)]))
    headers = ["image", *(Path(kind).name for kind in TYPES)]
    Image.fromarray(contact_sheet(headers, rows)).save(target, quality=88)
    print(f"{target} ({target.stat().st_size / 1000:.0f} kB)")
    return 0


def panel(kind: str, image: Pixels, saliency: Pixels) -> Pixels:
    """The cutout of that type; a transparent one on a pattern."""
    if kind != "rgba":
        return Style.parse(kind).compose(image, saliency)
    places = np.indices(saliency.shape) // SQUARE
    pattern = np.where(places.sum(axis=0) % 2, 255, 205).astype(np.uint8)
    return on_background(image, saliency, np.asarray(cv2.merge([pattern] * 3), np.uint8))


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
