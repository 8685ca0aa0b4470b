"""Speed of every engine and precision against the plain network, whole pipeline and network only.

    python benchmarks/inference.py --quick                     one line of JSON, in a few minutes
    python benchmarks/inference.py --images DIR                all networks: runs/benchmarks/inference.md and .svg
    python benchmarks/inference.py --images DIR --networks lite      measures one again, keeps the others
    python benchmarks/inference.py --images DIR --memory --update-docs    the committed tables

The plain network is what a user gets without this project's engines: PyTorch eager, float32, contiguous, all three
heads, nothing folded. It runs in the same pipeline, in a process of its own without `inference.memory.keep_memory`,
which every engine sets. All variants of a network take turns in one run, so that a busy moment slows each of them.
Medians of the rounds count, with their spread: no ratio is drawn of a variant whose rounds differ by more than 15 %.
Ways:
    network 1, network 8      prepared images to logits, one at a time with all cores; in batches of 8
    pipeline 1, pipeline 8    JPEG to PNG, one image after the other; as test.py runs a folder
The limit is what the processor needs for the operations of the folded network alone, see benchmarks/limits.py. It is
measured in the same run; the share of the limit is the limit's time over that of the whole pipeline in batches of 8.
`resnet50` and `vgg16` are the published networks with seeded weights: their speed does not depend on what was learnt.
`--parts` keeps what was measured of every network, from which the report is made. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inference_report import figures, table, write_report
from benchmarks.limits import BATCH as LIMIT_BATCH
from benchmarks.limits import inference_workload, limit_of, scaled
from benchmarks.memory import peak_of
from benchmarks.networks import PUBLISHED, PUBLISHED_SIZE, count_gmac
from benchmarks.rounds import alternate
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import read_image, write_png
from inference.engines.base import EngineError, EngineName, EnginePrecision
from inference.engines.choice import build_engine
from inference.engines.sample_images import prepared_samples
from inference.folding.network import fold
from inference.map_writer import MapWriter, streams_for
from inference.memory import keep_memory
from inference.predictor import Predictor
from inference.saliency import restore, to_8bit
from inference.tasks import Outputs, Task, folder_set
from inference.weights import LoadedNetwork, load_network, shipped
from net.auto_msfnet import AutoMSFNet, build_network
from net.settings import NetworkConfig
from settings.parser import arguments
from utils.device import DeviceError, banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
VARIANTS: tuple[tuple[EngineName, EnginePrecision], ...] = (
    ("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"),
    ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
)  # fmt: skip
PLAIN = ("plain", "fp32")
WAYS = ("network 1", "network 8", "pipeline 1", "pipeline 8")
QUICK_WAYS = ("pipeline 8",)
BATCH = 8
CALIBRATION = 30  # images; for speed only, few are enough
CPU = torch.device("cpu")


class PlainEngine:
    """See `inference.engines.Engine`: the network as it was trained, eager, float32, contiguous, all three heads."""

    name, precision = PLAIN
    device, batch, streams = CPU, BATCH, 1
    reason = "what all others are measured against"

    def __init__(self, network: AutoMSFNet, size: int) -> None:
        self.network, self.size = network.eval(), size

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        return self.network(images.contiguous()).p1


@dataclass(frozen=True)
class Variant:
    """An engine in a precision: for one call at a time, and for as many as the pipeline makes."""

    name: str
    precision: str
    lone: Predictor
    side_by_side: Predictor


def main(words: Sequence[str] | None = None) -> int:
    """Measures, keeps, reports."""
    options = parse(words)
    if options.memory_of is not None:
        return tell_memory(options)
    keep_memory()
    print(banner(CPU, "several"))
    parts: dict[str, Any] = {}
    for name in options.networks:
        parts[name] = measure_network(name, options)
        if not options.quick:
            replace_text(options.parts / f"{name}.json", json.dumps(parts[name], indent=1) + "\n")
    if options.quick:
        print("\n\n".join(table(name, part) for name, part in parts.items()))
    else:
        known = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in options.parts.glob("*.json")}
        write_report(known, table_folder(options.update_docs) / "inference")
    print(json.dumps(figures(parts)))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "inference.py")
    add, names = parser.add_argument, [*PUBLISHED, *shipped()]
    add("--images", type=Path, default=ROOT / "data" / "samples", help="default: data/samples")
    add("--networks", nargs="+", choices=names, help=f"default: {', '.join(names)}; of --quick: resnet50, lite")
    add("--count", type=int, help="images a round (default: 16; of lite, and with --quick, more)")
    add("--rounds", type=int, default=5)
    add("--quick", action="store_true", help="only what the line of JSON needs")
    add("--parts", type=Path, default=Path("runs/benchmarks/inference"), metavar="DIR", help="keeps measurements")
    add("--no-limits", action="store_true", help="leave out the limits of the processor, which take minutes")
    add("--memory", action="store_true", help="peak memory too, each variant in a process of its own")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    add("--memory-of", nargs=3, metavar=("NETWORK", "ENGINE", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.networks = options.networks or (["resnet50", "lite"] if options.quick else names)
    if options.quick and options.update_docs:
        raise UserError("--quick --update-docs: a quick run measures too little for the tables. Leave one out.")
    for name in ("rounds", "count"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: at least 1.")
    return options


def network_of(name: str) -> LoadedNetwork:
    """A shipped network, or a published one with seeded weights."""
    if name in shipped():
        return load_network(name)
    torch.manual_seed(0)
    config = NetworkConfig(name, name)
    # No file, hence no checksum: the seed and PyTorch's version, which caches look at too, make the weights.
    return LoadedNetwork(build_network(config).eval(), config, PUBLISHED_SIZE, Path(name), f"{name}, seed 0")


def measure_network(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All that is to be known of one network."""
    loaded = network_of(name)
    images = [task.image for task in folder_set(options.images).tasks]
    # Few batches would measure how a run begins and ends, which is not worth its time but in the quick run.
    count = options.count or (128 if name in shipped() else 40 if options.quick else 16)
    variants = list(filter(None, (build(loaded, engine, precision, images, count) for engine, precision in VARIANTS)))
    tasks = [Task(f"{i:05d}", images[i % len(images)]) for i in range(count)]
    names = QUICK_WAYS if options.quick else WAYS
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as elsewhere:
        plain = (name, tuple(tasks), Path(folder))
        calls: dict[tuple[str, str, str], Callable[[], object]] = {
            (*PLAIN, way): partial(elsewhere.apply, call_plain, (way, *plain)) for way in names
        }
        for variant in variants:
            timed = ways(variant, tasks, Path(folder))
            calls |= {(variant.name, variant.precision, way): timed[way] for way in names}
        seconds = alternate(calls, options.rounds)
    apart = differences(loaded, variants)
    gmac = {
        "plain": count_gmac(loaded.network, loaded.size),
        "folded": count_gmac(fold(loaded.network, loaded.size), loaded.size),
    }
    rows = [
        {
            "engine": engine,
            "precision": precision,
            "ms": {way: 1000 * median(seconds[engine, precision, way]) / images_of(way, count) for way in names},
            "spread": {way: spread(seconds[engine, precision, way]) for way in names},
            "memory": memory_of(name, engine, precision) if options.memory else None,
            "difference": apart.get((engine, precision), 0.0),
        }
        for engine, precision in [PLAIN, *((variant.name, variant.precision) for variant in variants)]
    ]
    return {
        "size": loaded.size, "count": count, "images": options.images.name, "rounds": options.rounds,
        "machine": f"{banner(CPU, 'several')} | {usable_cores()} cores", "gmac": gmac, "rows": rows,
        "auto": chosen_by_auto(loaded, count),
        "limit": {} if options.no_limits else limits(name, [row["precision"] for row in rows], options.rounds),
    }  # fmt: skip


@cache
def plain_ways(name: str, tasks: tuple[Task, ...], folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed of the plain network, built once a process."""
    loaded = network_of(name)
    plain = Predictor(PlainEngine(loaded.network, loaded.size))
    return ways(Variant(*PLAIN, plain, plain), tasks, folder)


def call_plain(way: str, name: str, tasks: tuple[Task, ...], folder: Path) -> None:
    """One turn of the plain network, in the process that is its own."""
    plain_ways(name, tasks, folder)[way]()


def build(
    loaded: LoadedNetwork, engine: EngineName, precision: EnginePrecision, images: Sequence[Path], count: int
) -> Variant | None:
    """A variant; None, with a line that gives the reason, where it is not available."""
    calibration = images[:CALIBRATION] if precision == "int8" else ()
    try:
        streams = streams_for(count, BATCH)
        built = {
            number: Predictor.from_loaded(loaded, CPU, precision, None, engine, calibration, number)
            for number in {1, streams}
        }
    except (EngineError, DeviceError) as error:
        print(f"note: {engine} {precision} is left out. {error}", file=sys.stderr)
        return None
    return Variant(engine, precision, built[1], built[streams])


def images_of(way: str, count: int) -> int:
    """How many of a round's images a way takes: one at a time they go evenly, so a quarter of them is enough."""
    return -(-count // 4) if way.endswith(" 1") else count


def ways(variant: Variant, tasks: Sequence[Task], folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    lone, many = variant.lone, variant.side_by_side
    few = tasks[: images_of("network 1", len(tasks))]
    prepared = [lone.prepare(read_image(task.image)) for task in tasks]
    batches = [prepared[start : start + BATCH] for start in range(0, len(prepared), BATCH)]
    writer = MapWriter(many, Outputs(folder), batch=BATCH, workers=min(4, usable_cores()))

    def network_8() -> None:
        with ThreadPoolExecutor(many.engine.streams) as threads:
            list(threads.map(many.logits, batches))

    def one_by_one() -> None:
        for task in few:
            image = read_image(task.image)
            (logits,) = lone.logits([lone.prepare(image)])
            write_png(writer.outputs.path(task, "maps"), to_8bit(restore(logits, (image.shape[0], image.shape[1]))))

    def as_test_py() -> None:
        for failure in writer.write(tasks):
            raise UserError(failure.reason)

    return {
        "network 1": lambda: [lone.logits([one]) for one in prepared[: len(few)]],
        "network 8": network_8,
        "pipeline 1": one_by_one,
        "pipeline 8": as_test_py,
    }


def differences(loaded: LoadedNetwork, variants: Sequence[Variant]) -> dict[tuple[str, str], float]:
    """Mean absolute difference of each variant's maps from those of the network in float32, on the sample images."""
    images = prepared_samples(loaded.size)
    with torch.inference_mode():
        exact = torch.cat([loaded.network(image).p1.sigmoid() for image in images.split(1)])  # (N, 1, S, S)
    found: dict[tuple[str, str], float] = {}
    for one in variants:
        logits = torch.from_numpy(np.stack([one.lone.logits([(image,)])[0] for image in images]))
        found[one.name, one.precision] = (logits.sigmoid().reshape_as(exact) - exact).abs().mean().item()
    return found


def spread(values: Sequence[float]) -> float:
    """(slowest - fastest) / median of the rounds."""
    return (max(values) - min(values)) / median(values)


def chosen_by_auto(loaded: LoadedNetwork, count: int) -> list[str]:
    """Engine and precision that `auto` takes for a run of this many images."""
    engine = build_engine(loaded, streams=streams_for(count, BATCH))
    return [engine.name, engine.precision]


def limits(name: str, precisions: Iterable[str], rounds: int) -> dict[str, float]:
    """The least milliseconds an image that this processor needs for the folded network, by precision."""
    workload, _ = inference_workload(name)
    found = {one: limit_of(scaled(workload, one), one, rounds) for one in sorted(set(precisions))}
    return {one: 1000 * limit.seconds / LIMIT_BATCH for one, limit in found.items() if limit is not None}


def memory_of(name: str, engine: str, precision: str) -> float | None:
    """Peak memory of a process that computes two batches with only this variant, in MB."""
    command = [sys.executable, __file__, "--memory-of", name, engine, precision]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(ended.stdout.split()[-1]) if ended.returncode == 0 else None


def tell_memory(options: argparse.Namespace) -> int:
    """The program of `memory_of`; int8 is calibrated already."""
    name, engine, precision = options.memory_of
    loaded = network_of(name)
    images = [task.image for task in folder_set(options.images).tasks][:CALIBRATION]
    if (engine, precision) == PLAIN:
        predictor = Predictor(PlainEngine(loaded.network, loaded.size))
    else:
        calibration = images if precision == "int8" else ()
        predictor = Predictor.from_loaded(loaded, CPU, precision, None, engine, calibration, streams_for(99, BATCH))
    batch = [predictor.prepare(read_image(images[i % len(images)])) for i in range(BATCH)]
    print(peak_of(lambda: [predictor.logits(batch) for _ in range(2)]))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
