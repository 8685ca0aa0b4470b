"""Flicker and error of maps of a video, with and without `test.py --smooth`, on clips of known motion.

    python benchmarks/video_smooth.py --data ECSSD=DIR DUTS-TE=DIR                 runs/benchmarks/video_smooth.md
    python benchmarks/video_smooth.py --data ECSSD=DIR DUTS-TE=DIR --update-docs   benchmarks/video_smooth.md

The clips are made of still images (`benchmarks/clips.py`): a window of the image pans, zooms or shakes, or the object
crosses its background. Each frame gets noise of its own. Thus the true map and the motion of every pixel are known.
    flicker   mean absolute difference of consecutive maps after the known motion is undone
    error     mean absolute error against the moved mask
`in place` is the same average over time without optical flow, for comparison. The last line is JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from benchmarks.clips import MOTIONS, Plane, StillClip, error, flicker, make_clip
from benchmarks.tables import UPDATE_HELP, table_folder
from data.layouts import find_pairs
from data.pairs import read_pair, with_coding
from evaluation.tables.writer import Table, markdown
from inference.predictor import Predictor
from inference.saliency import restore
from inference.video.smoothing import KEPT, SURE, Smoother, small_frame
from settings.parser import arguments, named_folders
from utils.errors import exit_on_user_error
from utils.files import replace_text

WAYS = ("alone", "in place", "smooth")
Logits = Sequence[NDArray[np.float32]]
Measured = dict[str, dict[str, list[tuple[float, float]]]]
"""(flicker, error) of every clip, by motion and way."""


def main(words: Sequence[str] | None = None) -> int:
    """Makes the clips, measures, writes the table."""
    parser = arguments(__doc__, "benchmarks/video_smooth.py")
    parser.add_argument("--data", nargs="+", action="extend", required=True, metavar="NAME=DIR", help="datasets")
    parser.add_argument("--weights", default="lite", help="shipped name or file")
    parser.add_argument("--images", type=int, default=20, help="of each dataset, at equal steps")
    parser.add_argument("--frames", type=int, default=12, help="of each clip")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    data = named_folders(options.data, "--data")
    predictor = Predictor.from_pretrained(options.weights, "cpu", "fp32", engine="torch")
    measured: Measured = {motion: {way: [] for way in WAYS} for motion in MOTIONS}
    for name, root in data.items():
        pairs = with_coding(find_pairs(root))
        chosen = pairs[:: max(1, len(pairs) // options.images)][: options.images]
        for seed, pair in enumerate(tqdm(chosen, desc=name, unit="image", disable=None)):
            image, mask = read_pair(pair)
            for motion in MOTIONS:
                clip = make_clip(image, mask, motion, options.frames, seed)
                for way, scores in measure(predictor, clip).items():
                    measured[motion][way].append(scores)
    text = report(measured, f"{options.images} images each of {' and '.join(data)}", options.weights, options.frames)
    path = table_folder(options.update_docs) / "video_smooth.md"
    replace_text(path, text)
    print(text)
    means = {
        motion: {way: np.mean(values, axis=0).tolist() for way, values in ways.items()}
        for motion, ways in measured.items()
    }
    print(json.dumps({"flicker_and_error": means, "table": str(path)}))
    return 0


def measure(predictor: Predictor, clip: StillClip) -> dict[str, tuple[float, float]]:
    """Flicker and error of every way."""
    # One call a frame: the maps of a batch depend on nothing else, and a clip need not fill it.
    logits = [predictor.logits([predictor.prepare(frame)])[0] for frame in clip.frames]
    made = {"alone": logits, "in place": in_place(logits), "smooth": smooth(clip.frames, logits, predictor.size)}
    size = clip.masks[0].shape[0], clip.masks[0].shape[1]
    maps: Mapping[str, list[Plane]] = {way: [restore(one, size) for one in made[way]] for way in WAYS}
    return {way: (flicker(maps[way], clip), error(maps[way], clip)) for way in WAYS}


def smooth(frames: Sequence[NDArray[np.uint8]], logits: Logits, side: int) -> list[NDArray[np.float32]]:
    """The logits as `test.py --smooth` makes them."""
    smoother = Smoother(side)
    return [smoother(small_frame(frame, side), one) for frame, one in zip(frames, logits, strict=True)]


def in_place(logits: Logits) -> list[NDArray[np.float32]]:
    """The same average over time, but each pixel stays at its place."""
    out = [np.clip(logits[0], -SURE, SURE)]
    for one in logits[1:]:
        mean = cv2.addWeighted(out[-1], KEPT, np.clip(one, -SURE, SURE), 1 - KEPT, 0)
        out.append(np.asarray(mean, np.float32))
    return out


def report(measured: Measured, images: str, weights: str, frames: int) -> str:
    """The document."""
    heads = ["motion", "clips", *(f"flicker, {way}" for way in WAYS), "smooth / alone"]
    heads += [*(f"error, {way}" for way in WAYS), "smooth - alone"]
    rows = [_row(motion, ways) for motion, ways in measured.items()]
    rows.append(_row("all", {way: [one for ways in measured.values() for one in ways[way]] for way in WAYS}))
    return f"""# Flicker and error of maps of a video

Written by `python benchmarks/video_smooth.py --data ECSSD=DIR DUTS-TE=DIR --update-docs`.

{images}, clips of {frames} frames, weights `{weights}`. Flicker is the mean absolute difference of consecutive maps
after the known motion is undone. Error is the mean absolute error against the moved mask. Brackets hold 95 % bootstrap
intervals over clips. `in place` averages over time without optical flow.

{markdown(Table(heads, rows))}

The settings of the smoothing were chosen on clips of DUTS-TR, not on these.
"""


def _row(motion: str, ways: Mapping[str, list[tuple[float, float]]]) -> list[str]:
    values = {way: np.array(ways[way]) for way in WAYS}  # (clips, 2) each
    flickers, errors = ([values[way][:, column].mean() for way in WAYS] for column in (0, 1))
    ratio = flickers[2] / flickers[0]
    difference = values["smooth"][:, 1] - values["alone"][:, 1]
    cells = [f"{difference.mean():+.4f}"]
    ratios = f"{ratio:.2f}"
    if len(difference) > 1:
        low, high = _interval((difference,), lambda d, axis: d.mean(axis))
        cells = [f"{difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"]
        pair = values["smooth"][:, 0], values["alone"][:, 0]
        low, high = _interval(pair, lambda one, other, axis: one.mean(axis) / other.mean(axis))
        ratios = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
    return [
        motion, str(len(difference)), *(f"{one:.4f}" for one in flickers), ratios,
        *(f"{one:.4f}" for one in errors), *cells,
    ]  # fmt: skip


def _interval(samples: tuple[NDArray, ...], statistic: object) -> tuple[float, float]:
    found = stats.bootstrap(samples, statistic, paired=True, vectorized=True, n_resamples=2000, rng=0)  # pyright: ignore[reportArgumentType]
    return found.confidence_interval.low, found.confidence_interval.high


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
