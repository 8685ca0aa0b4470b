"""Maps of the classical methods that OpenCV's contributed modules ship, as peers for `evaluate.py`.

Two methods, with OpenCV's own settings:
- spectral residual: Hou, Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007;
- fine-grained saliency: Montabone, Soto, "Human detection using a mobile platform and novel features derived from a
  visual saliency mechanism", Image and Vision Computing 28, 2010.

The contributed modules come in a package that cannot be installed beside the one that the measures require: both are
`cv2`. So this program runs in an environment of its own:
    python -m venv classical && classical/bin/pip install opencv-contrib-python-headless pillow tqdm PyYAML jsonargparse
    classical/bin/python benchmarks/classical.py --data NAME=DIR ... --out DIR
Maps go to DIR/METHOD/NAME/, as `evaluate.py --maps METHOD=DIR/METHOD` reads them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.image_io import read_image, write_png
from data.layouts import Pair, find_pairs
from settings.parser import named_folders
from utils.errors import UserError, exit_on_user_error

Pixels = NDArray[np.uint8]
INSTALL = (
    "pip install opencv-contrib-python-headless pillow tqdm PyYAML jsonargparse, in an environment without "
    "opencv-python-headless"
)


def methods() -> dict[str, Callable[[Pixels], Pixels]]:
    """Name -> (image (H, W, 3) RGB -> map (H, W)).

    Raises:
        UserError: this OpenCV has no contributed modules.
    """
    kinds = getattr(cv2, "saliency", None)
    if kinds is None:
        raise UserError(f"OpenCV {cv2.__version__} here has no saliency module. Do: {INSTALL}.")
    return {
        "SpectralResidual": _method(kinds.StaticSaliencySpectralResidual_create().computeSaliency),
        "FineGrained": _method(kinds.StaticSaliencyFineGrained_create().computeSaliency),
    }


def write_maps(name: str, method: Callable[[Pixels], Pixels], pairs: Sequence[Pair], folder: Path) -> float:
    """Writes a method's maps of a dataset.

    Args:
        name: title of the progress bar.

    Returns:
        Seconds per image that the method took, reading and writing not counted.
    """
    seconds = 0.0
    for pair in tqdm(pairs, name, unit="image", disable=None):
        image = read_image(pair.image)
        start = time.perf_counter()
        saliency = method(image)
        seconds += time.perf_counter() - start
        write_png(folder / f"{pair.name}.png", saliency)
    return seconds / len(pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the maps of every method and data set; prints the time that each took."""
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "classical.py", description=heading, epilog=rest, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", action="extend", required=True, metavar="NAME=DIR", help="data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for METHOD/NAME/*.png")
    options = parser.parse_args(arguments)
    known = methods()
    times: dict[str, dict[str, float]] = {method: {} for method in known}
    for name, root in named_folders(options.data, "--data").items():
        pairs = find_pairs(root)
        for method, function in known.items():
            folder = options.out / method / name
            times[method][name] = write_maps(f"{method} on {name}", function, pairs, folder)
            print(f"{method:<18} {name:<14} {len(pairs):>5} maps  {1e3 * times[method][name]:7.2f} ms each")
    print(json.dumps({"seconds_per_image": times}))
    return 0


def _method(compute: Callable[[Pixels], tuple[bool, NDArray[np.float32]]]) -> Callable[[Pixels], Pixels]:
    """OpenCV's function, of BGR to floats in 0..1, as one of RGB to bytes."""

    def saliency(image: Pixels) -> Pixels:
        done, found = compute(image[..., ::-1])
        if not done:
            raise UserError(f"OpenCV gave no map for an image of shape {image.shape}.")
        return np.rint(255 * np.clip(found, 0, 1)).astype(np.uint8)

    return saliency


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
