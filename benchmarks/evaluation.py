"""How much faster the process pool scores than pysodmetrics in one process, and that both give the same numbers.

    python benchmarks/evaluation.py [--data DIR --maps DIR] [--workers N] [--rounds N] [--out DIR]

Four ways over the same maps, in turn in every round, so that a busy moment meets all:
    library       the public classes of pysodmetrics, each fed every pair, in one process
    one process   `evaluation.scoring.score_maps` without a pool
    pool          `score_maps` with `--workers` processes, which are started anew, within the time, in every round
    pool, again   the same call while they still run, as with the second and every further folder of maps
Without --data, generated scenes and disturbed masks are scored. Exit code 1 where the numbers differ by more than 1e-9.
Prints a table, writes it to `--out`; the last line is JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import py_sod_metrics as sod
from loky import get_reusable_executor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.image_io import write_png
from data.layouts import find_pairs
from data.masks import read_mask
from data.synthetic import write_scenes
from evaluation.map_files import ScorePair, pair_maps
from evaluation.measures import KEYS
from evaluation.metrics import DatasetScores
from evaluation.scoring import score_maps
from evaluation.tables.writer import Table, markdown
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

Numbers = dict[str, float]
TOLERANCE = 1e-9


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; 1 where the numbers differ."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            pairs = generated(Path(folder), options.count)
        else:
            pairs = pair_maps(find_pairs(options.data), options.maps)[: options.count]
        seconds, numbers = measure(pairs, options.workers, options.rounds)
    difference = max(abs(numbers[way][key] - numbers["library"][key]) for way in numbers for key in numbers[way])
    figures = summary(seconds, difference, len(pairs), options.workers)
    text = report(seconds, figures, options)
    print(text)
    if options.out is not None:
        replace_text(options.out / "evaluation.md", text + "\n")
        replace_text(options.out / "evaluation.json", json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))
    return 0 if difference <= TOLERANCE else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "evaluation.py", description=heading, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="a data set with masks; default: generated scenes")
    add("--maps", type=Path, help="a method's maps of it")
    add("--count", type=int, default=500, help="maps that are scored (default 500)")
    add("--workers", type=int, default=usable_cores(), help="processes of the pool (default: the cores)")
    add("--rounds", type=int, default=3)
    add("--out", type=Path, help="folder for evaluation.md and evaluation.json")
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.maps is None):
        raise UserError("--data and --maps go together: give both, or neither for generated scenes.")
    for name, least in (("count", 1), ("workers", 2), ("rounds", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} {getattr(options, name)}: at least {least}.")
    return options


def generated(folder: Path, count: int, size: int = 320) -> list[ScorePair]:
    """Scenes of about the area of ECSSD's images; their masks, softened and disturbed, are the maps."""
    write_scenes(folder / "data", count, size)
    pairs = find_pairs(folder / "data")
    rng = np.random.default_rng(0)
    for pair in pairs:
        soft = cv2.GaussianBlur(read_mask(pair.mask).astype(np.float64), (0, 0), 5)
        noisy = soft + 20 * cv2.GaussianBlur(rng.standard_normal(soft.shape), (0, 0), 2)
        write_png(folder / "maps" / f"{pair.name}.png", np.clip(noisy, 0, 255).astype(np.uint8))
    return pair_maps(pairs, folder / "maps")


def by_the_library(pairs: Sequence[ScorePair]) -> Numbers:
    """All measures and curves through the public classes, one pair after the other."""
    parts: list[Any] = [sod.MAE(), sod.Smeasure(), sod.WeightedFmeasure(), sod.Emeasure(), sod.Fmeasure()]
    parts.append(sod.MSIoU(with_dynamic=False, with_adaptive=True))
    for pair in pairs:
        saliency = cv2.imread(str(pair.map_path), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(pair.mask_path), cv2.IMREAD_GRAYSCALE)
        for part in parts:
            part.step(saliency, mask)
    found = {key: value for part in parts for key, value in part.get_results().items()}
    f, e = found["fm"]["curve"], found["em"]["curve"]
    means = {"mae": found["mae"], "sm": found["sm"], "wfm": found["wfm"], "msiou": found["adaptive"]}
    means |= {"adpf": found["fm"]["adp"], "meanf": f.mean(), "maxf": f.max()}
    means |= {"adpe": found["em"]["adp"], "meane": e.mean(), "maxe": e.max()}
    return means | _flat({"precision": found["pr"]["p"], "recall": found["pr"]["r"], "f": f, "e": e}, step=-1)


def by_us(scores: DatasetScores) -> Numbers:
    """The same numbers of our scores."""
    return scores.measures | _flat(vars(scores.curves), step=1)


def measure(pairs: Sequence[ScorePair], workers: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, Numbers]]:
    """Seconds of every way and round, and the numbers that it gave."""
    ways: dict[str, Callable[[], Numbers]] = {
        "library": lambda: by_the_library(pairs),
        "one process": lambda: by_us(score_maps(pairs, 1)),
        "pool": lambda: by_us(score_maps(pairs, workers)),
        "pool, again": lambda: by_us(score_maps(pairs, workers)),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    numbers: dict[str, Numbers] = {}
    cv2.setNumThreads(1)
    for _ in range(rounds):
        for way, call in ways.items():
            if way == "pool":
                get_reusable_executor().shutdown(wait=True)
            begin = time.perf_counter()
            numbers[way] = call()
            seconds[way].append(time.perf_counter() - begin)
    return seconds, numbers


def summary(seconds: Mapping[str, Sequence[float]], difference: float, count: int, workers: int) -> dict[str, Any]:
    """The figures for the last line."""
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "maps": count,
        "workers": workers,
        "cores": usable_cores(),
        "seconds": medians,
        "speedup": medians["library"] / medians["pool"],
        "speedup_of_the_pool_alone": medians["one process"] / medians["pool"],
        "speedup_of_the_pool_running": medians["one process"] / medians["pool, again"],
        "largest_difference": difference,
        "pysodmetrics_measures": len(KEYS),
    }


def report(seconds: Mapping[str, Sequence[float]], figures: Mapping[str, Any], options: argparse.Namespace) -> str:
    """The table, and under which conditions it was measured."""
    source = "generated scenes of 320 x 320" if options.data is None else options.data.name
    lines = [
        "# Scoring: process pool against pysodmetrics in one process",
        "",
        f"{figures['maps']} maps ({source}), {len(KEYS)} measures; medians of {options.rounds} alternated rounds; "
        f"{figures['workers']} workers on {figures['cores']} cores, their start counted under `pool`. "
        f"Largest difference of any measure or curve from the library: {figures['largest_difference']:.1e}.",
        "",
    ]
    rows = []
    for way, times in seconds.items():
        median = figures["seconds"][way]
        spread = f"{min(times):.2f} to {max(times):.2f}"
        gains = [f"{figures['seconds'][base] / median:.2f}" for base in ("library", "one process")]
        rows.append([way, f"{median:.2f}", spread, f"{figures['maps'] / median:.1f}", *gains])
    heads = ["way", "seconds", "fastest to slowest", "maps/s", "times the library", "times one process"]
    return "\n".join([*lines, markdown(Table(heads, rows))])


def _flat(curves: Mapping[str, Any], step: int) -> Numbers:
    """`f 17 -> value`; `step` -1 turns the library's order of thresholds round."""
    return {f"{name} {i}": float(v) for name, curve in curves.items() for i, v in enumerate(np.asarray(curve)[::step])}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the library's own: deprecated names
    sys.exit(exit_on_user_error(main))
