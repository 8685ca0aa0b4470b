"""How test.py behaves as images become many, and as one image becomes large.

    python benchmarks/scale.py                          10,000 images, then 0.3 to 100 megapixels: 8 minutes, 2 cores
    python benchmarks/scale.py --count 400 --megapixels 0.3 3
    python benchmarks/scale.py --update-docs            writes benchmarks/scale.md and scale.svg

Many: generated scenes of 400 x 300 pixels as JPEG, in one process and in two of torchrun. Each quarter of a run has its
own speed and peak memory: both should be level. Large: copies of one scene, enlarged; seconds an image are what
test.py states, to a tenth of a second for all of them, so without its start, for maps alone and with cutouts. Memory is
the peak that Linux counts (VmHWM, the libraries included) of the process that takes the most. The last line is JSON.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.process_memory import largest_peak, recorded, watched
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import Pixels, write_jpeg
from data.synthetic import scene
from evaluation.report.figures import rendered, style, styled
from evaluation.tables.writer import Table, markdown
from settings.limits import Count, Positive
from settings.parser import arguments
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_bytes, replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
QUARTERS = 4
_SCENES, _WIDTH, _HEIGHT = 200, 400, 300
_WORK = 30e6  # pixels of the images of one size together, at least two images


@dataclass
class Watch:
    """Reads progress and memory of a run.

    Attributes:
        out: where the maps appear.
        marks: numbers of maps at which the clock and the memory are read.
        seen: seconds and peak in MB at those marks.
        peak: of the run so far, in MB.
    """

    out: Path
    marks: Sequence[int] = ()
    seen: list[tuple[float, float]] = field(default_factory=list)
    peak: float = 0.0

    def __call__(self, processes: Sequence[int]) -> None:
        """Looks at the processes."""
        self.peak = max(self.peak, largest_peak(processes))
        if len(self.seen) < len(self.marks) and recorded(self.out) >= self.marks[len(self.seen)]:
            self.seen.append((time.perf_counter(), self.peak))


@dataclass(frozen=True)
class Quarter:
    """Speed in images a second and peak memory in MB at its end."""

    speed: float
    peak: float


@dataclass(frozen=True)
class Size:
    """Seconds an image of a number of megapixels, and the peak of the run in MB."""

    megapixels: float
    seconds: float
    peak: float


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes table and figure."""
    options = parse(words)
    if not Path("/proc/self/status").is_file():
        raise UserError("scale.py reads /proc, which this system lacks. Run it on Linux.")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_scenes(folder / "many", options.count)
        many = {processes: run_of_many(folder, processes, options) for processes in (1, 2)}
        sizes = {
            kind: [run_of_large(folder, megapixels, extra, options) for megapixels in options.megapixels]
            for kind, extra in (("maps", []), ("maps and cutouts", ["--cutout"]))
        }
    text = report(many, sizes, options)
    print(text)
    replace_text(table_folder(options.update_docs) / "scale.md", text + "\n")
    with styled():
        figure = draw(sizes)
    replace_bytes(table_folder(options.update_docs) / "scale.svg", rendered(figure, "svg"))
    speeds = {str(processes): [round(one.speed, 1) for one in quarters] for processes, quarters in many.items()}
    seconds = {kind: {f"{one.megapixels:g}": round(one.seconds, 3) for one in row} for kind, row in sizes.items()}
    print(json.dumps({"images_per_s": speeds, "seconds": seconds}))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "scale.py")
    add = parser.add_argument
    add("--count", type=Count, default=10_000, help="small images")
    add("--megapixels", type=list[Positive], default=[0.3, 1, 3, 12, 25, 50, 100], help="sizes of the large images")
    add("--weights", default="lite")
    add("--engine", default="openvino", help="see test.py")
    add("--precision", default="int8", help="see test.py")
    add("--folder", type=Path, default=None, help="for images and maps; default: that of temporary files")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    return parser.parse_args(words)


def write_scenes(folder: Path, count: int) -> None:
    """So many JPEG files of 400 x 300 pixels; 200 of them differ, the others are links."""
    for index in range(count):
        path = folder / f"{index:06d}.jpg"
        if index < _SCENES:
            write_jpeg(path, scene(np.random.default_rng(index), _WIDTH).image[:_HEIGHT])
        else:
            os.link(folder / f"{index % _SCENES:06d}.jpg", path)


def run_of_many(folder: Path, processes: int, options: argparse.Namespace) -> list[Quarter]:
    """Speed and memory of each quarter of a run over the small images; the first is counted from its hundredth map."""
    out = folder / f"out_{processes}"
    first = min(100, options.count // (2 * QUARTERS))
    marks = [first, *(options.count * quarter // QUARTERS for quarter in range(1, QUARTERS + 1))]
    watch = Watch(out, marks)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    run(["--images", str(folder / "many")], watch, options, torchrun if processes > 1 else [])
    if len(watch.seen) < len(marks):  # it ended between two looks
        watch.seen.append((time.perf_counter(), watch.peak))
    return [
        Quarter((end - begin) / (after[0] - before[0]), after[1])
        for (begin, end), (before, after) in zip(pairwise(marks), pairwise(watch.seen), strict=True)
    ]


def run_of_large(folder: Path, megapixels: float, extra: list[str], options: argparse.Namespace) -> Size:
    """Time and memory of one run over images of one size."""
    images = folder / f"large_{megapixels:g}"
    count = max(2, min(24, round(_WORK / (1e6 * megapixels))))
    if not images.exists():
        write_jpeg(images / "00.jpg", enlarged(megapixels))
        for index in range(1, count):
            os.link(images / "00.jpg", images / f"{index:02d}.jpg")
    watch = Watch(folder / f"out_{megapixels:g}_{len(extra)}")
    told = run(["--images", str(images), "--max-megapixels", "200", *extra], watch, options)
    return Size(megapixels, seconds_of(told) / count, watch.peak)


def enlarged(megapixels: float) -> Pixels:
    """A scene of so many megapixels, 4 by 3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    small = scene(np.random.default_rng(0), 640).image[:480]
    large = cv2.resize(small, (round(height * 4 / 3), height), interpolation=cv2.INTER_CUBIC)
    return large.astype(np.uint8, copy=False)


def run(words: Sequence[str], watch: Watch, options: argparse.Namespace, launcher: Sequence[str] = ()) -> str:
    """Runs test.py; returns what it printed.

    Raises:
        UserError: it failed.
    """
    command = [
        sys.executable, *launcher, str(ROOT / "test.py"), *words, "--out", str(watch.out), "--weights", options.weights,
        "--device", "cpu", "--engine", options.engine, "--precision", options.precision, "--no-sheet",
    ]  # fmt: skip
    code, told = watched(command, watch)
    if code:
        raise UserError(f"test.py {' '.join(words)}: exit code {code}: {told[-200:]}")
    return told


def seconds_of(told: str) -> float:
    """Seconds of the images, by the last line of test.py.

    Raises:
        UserError: there is no such line.
    """
    found = re.search(r"images in ([\d.]+) s", told)
    if found is None:
        raise UserError(f"test.py printed no time: {told[-200:]}")
    return float(found[1])


def report(many: dict[int, list[Quarter]], sizes: dict[str, list[Size]], options: argparse.Namespace) -> str:
    """The tables, and under which conditions they were measured."""
    quarters = [
        [str(processes), *(f"{one.speed:.1f}" for one in row), *(f"{one.peak:.0f}" for one in row)]
        for processes, row in many.items()
    ]
    places = [f"{place} quarter" for place in ("1st", "2nd", "3rd", "4th")]
    heads = ["processes", *(f"{place}, images/s" for place in places), *(f"{place}, MB" for place in places)]
    large = [
        [f"{of[0].megapixels:g}", *(text for one in of for text in (f"{one.seconds:.3f}", f"{one.peak:.0f}"))]
        for of in zip(*sizes.values(), strict=True)
    ]
    kinds = [f"{kind}, {unit}" for kind in sizes for unit in ("s an image", "peak MB")]
    return "\n".join([
        "# Many images, and large ones",
        "",
        f"`python benchmarks/scale.py`; weights `{options.weights}`, engine {options.engine}, {options.precision}; "
        f"{banner(torch.device('cpu'), options.precision)} | {usable_cores()} cores.",
        "",
        f"{options.count:,} JPEG files of {_WIDTH} x {_HEIGHT} pixels, speed and peak memory by the quarters of a run:",
        "",
        markdown(Table(heads, quarters)),
        "",
        "One image as it grows, a JPEG of 4 by 3:",
        "",
        markdown(Table(["megapixels", *kinds], large)),
        "",
        "![seconds and memory an image over its megapixels](scale.svg)",
    ])  # fmt: skip


def draw(sizes: dict[str, list[Size]]) -> Figure:
    """Seconds an image and peak memory over megapixels; megapixels and seconds on logarithmic axes."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for place, (kind, row) in enumerate(sizes.items()):
        megapixels = [one.megapixels for one in row]
        time_axes.plot(megapixels, [one.seconds for one in row], marker="o", markersize=3, label=kind, **style(place))
        memory_axes.plot(megapixels, [one.peak for one in row], marker="o", markersize=3, label=kind, **style(place))
    time_axes.set(yscale="log", ylabel="seconds an image")
    memory_axes.set(ylabel="peak of the process, MB")
    for axes in (time_axes, memory_axes):
        axes.set(xscale="log", xlabel="megapixels")
        axes.grid(visible=True)
        axes.xaxis.set_major_formatter("{x:g}")
    time_axes.yaxis.set_major_formatter("{x:g}")
    memory_axes.set_ylim(bottom=0)
    time_axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
