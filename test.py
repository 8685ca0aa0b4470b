"""Saliency maps of photographs, benchmarks and videos.

    python test.py                                           the lite model on the sample photographs
    python test.py --images PATH --cutout                    one picture, or a folder whose tree is mirrored
    python test.py --data ECSSD=DIR PASCAL-S=DIR             benchmarks, scored beside the paper's Table 1
    python test.py --weights FILE.pth --data ECSSD=DIR       a checkpoint of the authors, recognised by itself
    python test.py --images DIR --resume                     goes on with a run that was stopped
    python test.py --images DIR --engine openvino --precision int8     what computes, and how finely
    torchrun --nproc-per-node 4 test.py --images DIR         a large folder, shared out over processes or GPUs
    python test.py --video FILE --cutout                     a video; --video 0 is the first camera, Ctrl-C ends it

Into `--out` go
    maps/                      8-bit PNG at the picture's own size, 255 is salient; `maps/NAME/` of a benchmark
    overlay/, cutout/          as asked: the object in front of a dimmed ground; the object alone (RGBA)
    sheet.png, sheet_NAME.png  a few pictures beside their maps
    scores.md, scores_NAME.csv tables, and the measures of every map
    NAME_overlay.mp4           a video, with its sound where ffmpeg is installed; NAME_cutout.mov has alpha there,
                               NAME_cutout.mp4 a green ground elsewhere
    results.json               scores, speed, failures, and all that they depend on
Exit code: 0 when all was done, 1 when some pictures failed (they are listed), 2 when the request cannot be met.
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from data.image_io import ImageReadError, Pixels, read_grey, read_image, write_png
from data.masks import find_coding, read_mask
from evaluation.map_files import ScorePair
from evaluation.metrics import DatasetScores
from evaluation.score_files import write_csv
from evaluation.scoring import score_maps
from evaluation.tables.scores import aligned, markdown, score_table
from inference.contact_sheet import SheetRow, contact_sheet
from inference.engines.base import EngineName, EnginePrecision, installed
from inference.engines.choice import engine_device
from inference.map_writer import DRAWN, MapMaker, streams_for
from inference.pipeline import Failure
from inference.predictor import Predictor
from inference.resume import check_same_run, remove_outputs, unfinished
from inference.tasks import Job, Task, benchmark_job, check_places, folder_job
from inference.video.convert import make_video
from inference.video.reader import Clip
from inference.video.writer import has_ffmpeg
from inference.weights import LoadedNetwork, load_network
from utils.config import named_folders
from utils.cores import usable_cores
from utils.device import banner, keep_memory
from utils.distributed import Processes, join
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.plugins import run_files

SAMPLES = Path(__file__).resolve().parent / "data" / "samples"
SHEET_PICTURES = 12
CALIBRATION_PICTURES = 100
WORKERS = min(4, usable_cores())  # threads that read, and as many that write
ENGINES = ("openvino", "onnxruntime", "nncf")
VERSIONS = ("torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pillow", "pysodmetrics")


@dataclass(frozen=True)
class Result:
    """What became of a job: the maps, the time that they took, and the scores or why there are none."""

    job: Job
    done: tuple[Task, ...]
    failures: tuple[Failure[Task], ...]
    seconds: float
    kept: int = 0  # of `done`: maps that were there already
    scores: DatasetScores | None = None
    problem: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds the pictures, loads the network, writes maps, scores and sheets; alone or started by torchrun."""
    options = parse(arguments)
    processes = join(engine_device(options.engine, options.device))
    try:
        with processes.agreeing():
            clip, jobs, loaded = find(options, processes)
        # The first converts and chooses an engine undisturbed; the others find its choice and the converted network.
        with processes.first_before_others():
            predictor = build(options, loaded, jobs, processes)
        with processes.agreeing():
            conditions = open_run(options, loaded, predictor, jobs, processes)
        if clip is not None:
            return film(predictor, clip, options, conditions)
        maker = MapMaker(predictor, options.out, drawn(options), options.batch, WORKERS)
        mine = [make_maps(maker, job, options.resume, processes) for job in jobs]
        shares = processes.gather(mine)
    finally:
        processes.leave()
    if not processes.first:
        return 0  # the first process scores the maps of all and speaks for all
    results = [score(merge(parts), options.out) for parts in zip(*shares, strict=True)]
    if options.sheet:
        for result in results:
            write_sheet(result, options.out)
    write_json(options.out, {**conditions, "jobs": [result_record(result) for result in results]})
    return report(results, Path(options.weights).stem, options.out)


def find(options: argparse.Namespace, processes: Processes) -> tuple[Clip | None, list[Job], LoadedNetwork]:
    """The video or the jobs, and the network."""
    run_files(options.plugins)
    clip = None if options.video is None else Clip(options.video)
    jobs = find_jobs(options) if clip is None else []
    check_places(jobs, options.out)
    if clip is not None and processes.world > 1:
        raise UserError("--video: frames can't be shared out over processes. Start it without torchrun.")
    if options.calibration is not None and options.precision != "int8":
        raise UserError("--calibration: only --precision int8 is calibrated. Leave it out, or ask for int8.")
    return clip, jobs, load_network(options.weights)


def build(options: argparse.Namespace, loaded: LoadedNetwork, jobs: Sequence[Job], processes: Processes) -> Predictor:
    """The predictor, on the engine that was asked for."""
    pictures = [task.image for job in jobs for task in job.tasks]
    streams = streams_for(-(-len(pictures) // processes.world) if jobs else options.batch * torch.get_num_threads(),
                          options.batch)  # fmt: skip
    predictor = Predictor.from_loaded(
        loaded, processes.device, options.precision, options.size, options.engine,
        readable(typical(options, jobs)), streams, options.flip, options.compile,
    )  # fmt: skip
    keep_memory()
    return predictor


def open_run(
    options: argparse.Namespace, loaded: LoadedNetwork, predictor: Predictor, jobs: Sequence[Job], processes: Processes
) -> dict[str, Any]:
    """The conditions of the run, which are printed and written; what is not to be gone on with is removed."""
    conditions = describe(loaded, predictor, options.batch, typical(options, jobs))
    if options.resume:
        check_same_run(options.out, conditions)
    elif processes.first:
        for job in jobs:
            remove_outputs(job.tasks, options.out, ["maps", *drawn(options)])
    shared = f" | {processes.world} processes" if processes.world > 1 else ""
    processes.print_once(
        f"{loaded.source.stem} | {loaded.config.encoder} | {predictor.size} x {predictor.size} | "
        f"batch {options.batch}{shared}\n{conditions['device']}\n"
        f"engine {predictor.engine.name}, {predictor.precision}: {predictor.engine.reason}"
    )
    if processes.first:
        write_json(options.out, {**conditions, "jobs": []})  # what `--resume` compares with
    return conditions


def typical(options: argparse.Namespace, jobs: Sequence[Job]) -> list[Path]:
    """Pictures that int8 is calibrated on: some from all over `--calibration`, or over the run itself."""
    if options.precision != "int8":
        return []
    chosen = jobs if options.calibration is None else [folder_job(options.calibration)]
    pictures = [task.image for job in chosen for task in job.tasks]
    return pictures[:: max(1, -(-len(pictures) // CALIBRATION_PICTURES))]


def readable(pictures: Sequence[Path]) -> Iterator[Pixels]:
    """Those that can be read."""
    for path in pictures:
        with suppress(ImageReadError):  # the run itself will tell
            yield read_image(path)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; overlay and sheet are on by default where neither pictures nor data are given."""
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "test.py", description=heading, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--weights", default="lite", metavar="NAME|FILE", help="shipped name, .safetensors, .pt, or an authors' .pth")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", type=Path, metavar="PATH", help="a picture or a folder; default: data/samples")
    source.add_argument("--data", nargs="+", action="extend", metavar="NAME=DIR", help="data sets that have masks")
    source.add_argument("--video", metavar="FILE|0", help="a video, or the number of a camera")
    add("--out", type=Path, default=Path("runs/test"), metavar="DIR", help="folder for what is written")
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    add(
        "--engine", default="auto", choices=get_args(EngineName), help="auto: the fastest installed that keeps the maps"
    )
    add("--precision", default="auto", choices=get_args(EnginePrecision), help="auto: bf16 where it is fast")
    add(
        "--calibration", type=Path, metavar="DIR", help="pictures that int8 is calibrated on; default: those of the run"
    )
    add("--compile", action="store_true", help="PyTorch: torch.compile; takes a minute, pays on GPUs")
    add(
        "--plugins",
        "--operations",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files that register your own parts",
    )
    add("--size", type=int, help="side of the square that the network sees; default: as it was trained")
    add("--flip", action="store_true", help="average with the mirror image: a little better, twice the time")
    add("--batch", type=int, help="pictures that the network takes at once (default: 8; of a video 4)")
    add("--resume", action="store_true", help="keep the maps that are whole already")
    add("--overlay", action=switch, help="the object in front of a dimmed ground, outlined")
    add("--cutout", action="store_true", help="the object alone, RGBA")
    add("--sheet", action=switch, help=f"a sheet of at most {SHEET_PICTURES} pictures beside their maps")
    options = parser.parse_args(arguments)
    if options.batch is None:
        options.batch = 8 if options.video is None else 4
    if options.batch < 1:
        raise UserError(f"--batch {options.batch}: at least 1.")
    for name in ("sheet", "resume"):
        if getattr(options, name) and options.video is not None:
            raise UserError(f"--{name}: a video has none. Leave it out.")
    samples = options.images is None and options.data is None and options.video is None
    options.overlay = samples if options.overlay is None else options.overlay
    options.sheet = samples if options.sheet is None else options.sheet
    return options


def find_jobs(options: argparse.Namespace) -> list[Job]:
    """The pictures that the command line asks for."""
    if options.data is not None:
        return [benchmark_job(name, root) for name, root in named_folders(options.data, "--data").items()]
    return [folder_job(options.images or SAMPLES)]


def drawn(options: argparse.Namespace) -> list[str]:
    """What to draw beside the maps."""
    return [kind for kind in DRAWN if getattr(options, kind)]


def make_maps(maker: MapMaker, job: Job, resume: bool, processes: Processes) -> Result:
    """Writes this process's share of the maps of a job."""
    for note in job.notes:
        processes.print_once(f"note: {note}")
    tasks = job.tasks[processes.rank :: processes.world]
    todo = unfinished(tasks, maker.out, ["maps", *maker.drawn]) if resume else tasks
    begin = time.perf_counter()
    with tqdm(total=len(todo), desc=job.title, unit="picture", disable=None if processes.first else True) as bar:
        failures = maker.make(todo, bar.update)
    seconds = time.perf_counter() - begin
    failed = {failure.item for failure in failures}
    done = tuple(task for task in tasks if task not in failed)
    return Result(job, done, tuple(failures), seconds, kept=len(tasks) - len(todo))


def merge(parts: Sequence[Result]) -> Result:
    """One job's results of all processes as one."""
    done = {task for part in parts for task in part.done}
    return Result(
        parts[0].job,
        tuple(task for task in parts[0].job.tasks if task in done),
        tuple(failure for part in parts for failure in part.failures),
        max(part.seconds for part in parts),
        sum(part.kept for part in parts),
    )


def score(result: Result, out: Path) -> Result:
    """Adds the scores of a benchmark; writes them for every map. Other jobs pass through."""
    pairs = [
        ScorePair(task.name.removeprefix(f"{result.job.title}/"), task.output(out, "maps"), task.mask)
        for task in result.done
        if task.mask is not None
    ]
    if not pairs:
        return result
    try:
        coding = find_coding([pair.mask_path for pair in pairs])
        pairs = [pair._replace(coding=coding) for pair in pairs]
        scores = score_maps(pairs, title=f"scoring {result.job.title}")
    except UserError as error:
        return replace(result, problem=f"{result.job.title}: not scored. {error}")
    write_csv(scores, out / f"scores_{result.job.title}.csv")
    part = f"{result.job.title}: the scores are of {len(pairs)} of {len(result.job.tasks)} pictures; the others failed."
    return replace(result, scores=scores, problem=part if result.failures else None)


def write_sheet(result: Result, out: Path) -> None:
    """A contact sheet of pictures from all over the job."""
    if not result.done:
        return
    step = -(-len(result.done) // SHEET_PICTURES)
    headers = ["picture", "map", "overlay", *(["mask"] if result.job.benchmark else [])]
    rows = [sheet_row(task, out) for task in result.done[::step]]
    name = f"sheet_{result.job.title}.png" if result.job.benchmark else "sheet.png"
    write_png(out / name, contact_sheet(headers, rows))


def sheet_row(task: Task, out: Path) -> SheetRow:
    """Picture, map and overlay of one task, and its mask if there is one."""
    image, saliency = read_image(task.image), read_grey(task.output(out, "maps"))
    masks = [] if task.mask is None else [read_mask(task.mask)]
    return SheetRow(task.name, [image, saliency, DRAWN["overlay"](image, saliency), *masks])


def film(predictor: Predictor, clip: Clip, options: argparse.Namespace, conditions: dict[str, Any]) -> int:
    """Writes the overlay or the cut-out of a video; gives the exit code."""
    if not has_ffmpeg():
        print("note: ffmpeg is not installed; there will be no sound, and a green ground instead of alpha.")
    stem = options.out / (f"camera{clip.source}" if clip.camera else Path(clip.source).stem)
    begin = time.perf_counter()
    with tqdm(total=clip.length, desc=stem.name, unit="frame", disable=None) as bar:
        result = make_video(predictor, clip, stem, drawn(options) or ["overlay"], options.batch, WORKERS, bar.update)
    seconds = time.perf_counter() - begin
    record = {**asdict(result), "files": [path.name for path in result.files], "seconds": round(seconds, 3)}
    write_json(options.out, {**conditions, "video": {"source": clip.source, **record}})
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    files = ", ".join(map(str, result.files))
    print(f"{result.found} frames in {seconds:.1f} s, {result.found / seconds:.1f} frames/s -> {files}")
    return 1 if result.problems else 0


def describe(loaded: LoadedNetwork, predictor: Predictor, batch: int, calibration: Sequence[Path]) -> dict[str, Any]:
    """All that results depend on, for `results.json`."""
    sizes = "".join(f"{path.name} {path.stat().st_size}\n" for path in calibration)
    packages = [*VERSIONS, *(name for name in ENGINES if installed(name))]
    return {
        "weights": {"file": loaded.source.name, "sha256": loaded.sha256, **asdict(loaded.config)},
        "size": predictor.size,
        "batch": batch,
        "device": banner(predictor.device, predictor.precision),
        "engine": predictor.engine.name,
        "precision": predictor.precision,
        "reason": predictor.engine.reason,
        "calibration": hashlib.sha256(sizes.encode()).hexdigest()[:16] if calibration else None,
        "flip": predictor.flip,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def write_json(out: Path, record: dict[str, Any]) -> None:
    """`results.json`: what was measured, and all that it depends on."""
    replace_text(out / "results.json", json.dumps(record, indent=1) + "\n")


def result_record(result: Result) -> dict[str, Any]:
    """One job for `results.json`."""
    return {
        "name": result.job.title,
        "source": str(result.job.root),
        "pictures": len(result.done),
        "kept": result.kept,
        "failed": {str(failure.item.image): failure.reason for failure in result.failures},
        "seconds": round(result.seconds, 3),
        "scores": None if result.scores is None else dict(result.scores.measures),
        "problem": result.problem,
    }


def report(results: Sequence[Result], method: str, out: Path) -> int:
    """Prints tables, failures and where to look; gives the exit code."""
    tables = [
        score_table(result.job.title, len(result.scores.rows), {method: result.scores.measures})
        for result in results
        if result.scores is not None
    ]
    if tables:
        replace_text(out / "scores.md", markdown(tables))
        print(f"\n{aligned(tables)}\n")
    problems = [failure.reason for result in results for failure in result.failures]
    problems += [result.problem for result in results if result.problem is not None]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    done, asked = sum(len(result.done) for result in results), sum(len(result.job.tasks) for result in results)
    seconds = sum(result.seconds for result in results)
    kept = sum(result.kept for result in results)
    before = f" ({kept} were there before)" if kept else ""
    print(f"{done} of {asked} pictures in {seconds:.1f} s, {(done - kept) / seconds:.1f} pictures/s{before} -> {out}/")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
