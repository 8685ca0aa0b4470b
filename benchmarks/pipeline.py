"""How much longer a whole run takes than its network: decoding, resizing and encoding should hide behind it.

    python benchmarks/pipeline.py --images DIR [--weights NAME|FILE] [--batch N] [--rounds N]

Three ways over the same images in the same batches, in turn in every round, so that other load affects all of them:
    network     batches prepared in memory to logits, with as many threads as in test.py
    test.py     files to maps on disk, reading, network and writing overlapped: what `test.py --images` runs
    in line     files to maps on disk, one stage after the other, each call of the network with all cores
Prints a table and writes it to runs/benchmarks/pipeline.md, or with `--update-docs` to benchmarks/pipeline.md. The last
line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rounds import alternate
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import read_image, write_png
from evaluation.tables.writer import Table, markdown
from inference.engines.base import EngineName, EnginePrecision
from inference.map_writer import MapWriter, streams_for
from inference.memory import keep_memory
from inference.predictor import Predictor
from inference.saliency import restore, to_8bit
from inference.tasks import Outputs, Task, folder_set
from inference.weights import load_network
from settings.parser import arguments
from utils.device import banner, choose_device
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Timing:
    """One way's seconds, round by round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.seconds)


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    options = parse(words)
    keep_memory()
    images = [task.image for task in folder_set(options.images).tasks]
    # Few images are taken again and again, under other names.
    count = options.count or len(images)
    tasks = [Task(f"{i:05d}", images[i % len(images)]) for i in range(count)]
    loaded = load_network(options.weights)
    calibration = images if options.precision == "int8" else ()
    predictor, lone = (
        Predictor.from_loaded(
            loaded, choose_device(options.device), options.precision, options.size, options.engine, calibration, streams
        )
        for streams in (streams_for(count, options.batch), 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        writer = MapWriter(predictor, Outputs(Path(folder)), batch=options.batch, workers=min(4, usable_cores()))
        seconds = alternate(ways(writer, lone, tasks), options.rounds)
    timings = [Timing(name, tuple(values)) for name, values in seconds.items()]
    text = report(timings, writer, len(tasks), options)
    print(text)
    replace_text(table_folder(options.update_docs) / "pipeline.md", text + "\n")
    print(json.dumps(figures(timings, writer, len(tasks))))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "pipeline.py")
    add = parser.add_argument
    add("--images", type=Path, default=ROOT / "data" / "samples", help="default: data/samples")
    add("--count", type=int, help="images a round; a small folder is gone through again (default: each once)")
    add("--weights", default="lite")
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    add("--engine", default="auto", choices=get_args(EngineName))
    add("--precision", default="auto", choices=get_args(EnginePrecision), help="int8 is calibrated on the images")
    add("--size", type=int)
    add("--batch", type=int, default=8)
    add("--rounds", type=int, default=5)
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    for name in ("batch", "rounds", "count"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: at least 1.")
    return options


def ways(writer: MapWriter, lone: Predictor, tasks: Sequence[Task]) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the prepared batches are made here, before any clock runs.

    Args:
        writer: what test.py runs.
        lone: its predictor again, with all cores for one call at a time.
        tasks: the images.
    """
    predictor = writer.predictor
    batches = [
        [predictor.prepare(read_image(task.image)) for task in tasks[start : start + writer.batch]]
        for start in range(0, len(tasks), writer.batch)
    ]

    def network() -> None:
        with ThreadPoolExecutor(predictor.engine.streams) as threads:
            list(threads.map(predictor.logits, batches))

    def overlapped() -> None:
        failures = writer.write(tasks)
        if failures:
            raise UserError(failures[0].reason)

    def in_line() -> None:
        for start in range(0, len(tasks), writer.batch):
            group = tasks[start : start + writer.batch]
            images = [read_image(task.image) for task in group]
            logits = lone.logits([lone.prepare(image) for image in images])
            for task, image, one in zip(group, images, logits, strict=True):
                write_png(writer.outputs.path(task, "maps"), to_8bit(restore(one, (image.shape[0], image.shape[1]))))

    return {"network": network, "test.py": overlapped, "in line": in_line}


def report(timings: Sequence[Timing], writer: MapWriter, count: int, options: argparse.Namespace) -> str:
    """The table, and under which conditions it was measured."""
    alone = timings[0].median
    predictor = writer.predictor
    lines = [
        "# Time of a whole run over that of its network",
        "",
        f"{count} images of `{options.images.name}`, weights `{Path(options.weights).stem}`, "
        f"{predictor.size} x {predictor.size}, batches of {writer.batch}; "
        f"medians of {options.rounds} alternated rounds.",
        "",
        f"{banner(predictor.device, predictor.precision)} | {usable_cores()} cores | "
        f"{predictor.engine.name}, {predictor.engine.streams} streams",
        "",
    ]
    rows = []
    for timing in timings:
        spread = f"{min(timing.seconds):.2f} to {max(timing.seconds):.2f}"
        cells = [f"{timing.median:.2f}", spread, f"{count / timing.median:.1f}", f"{timing.median / alone:.3f}"]
        rows.append([timing.name, *cells])
    heads = ["way", "seconds", "fastest to slowest", "images/s", "over network"]
    return "\n".join([*lines, markdown(Table(heads, rows))])


def figures(timings: Sequence[Timing], writer: MapWriter, count: int) -> dict[str, object]:
    """The line of JSON; `ratio` is test.py's median over the network's."""
    network, overlapped, in_line = (timing.median for timing in timings)
    return {
        "ratio": round(overlapped / network, 4),
        "in_line_ratio": round(in_line / network, 4),
        "images_per_s": round(count / overlapped, 2),
        "images": count,
        "batch": writer.batch,
        "size": writer.predictor.size,
        "engine": writer.predictor.engine.name,
        "precision": writer.predictor.precision,
        "streams": writer.predictor.engine.streams,
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
