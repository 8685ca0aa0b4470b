"""Saliency maps of photographs, benchmarks and videos.

    python test.py                                           the lite model on the sample photographs
    python test.py --images PATH --cutout                    one picture, or a folder whose tree is mirrored
    python test.py --data ECSSD=DIR PASCAL-S=DIR             benchmarks, scored beside the paper's Table 1
    python test.py --weights FILE.pth --data ECSSD=DIR       a checkpoint of the authors, recognised by itself
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
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.image_io import read_image, read_mask, write_png
from net.predictor import Predictor
from utils.checkpoint import LoadedNetwork, load_network
from utils.device import banner, choose_device, keep_memory
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.jobs import Job, Task, benchmark_job, check_places, folder_job
from utils.mapmaker import DRAWN, MapMaker
from utils.maps import ScorePair
from utils.metrics import DatasetScores, score_maps, usable_cores
from utils.named import named_folders
from utils.pictures import SheetRow, contact_sheet
from utils.pipeline import Failure
from utils.score_files import write_csv
from utils.tables import aligned, markdown, score_table
from utils.video import make_video
from utils.video_reader import Clip
from utils.video_writer import has_ffmpeg

SAMPLES = Path(__file__).resolve().parent / "data" / "samples"
SHEET_PICTURES = 12
WORKERS = min(4, usable_cores())  # threads that read, and as many that write
VERSIONS = ("torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pillow", "pysodmetrics")


@dataclass(frozen=True)
class Result:
    """What became of a job: the maps, the time that they took, and the scores or why there are none."""

    job: Job
    done: tuple[Task, ...]
    failures: tuple[Failure[Task], ...]
    seconds: float
    scores: DatasetScores | None = None
    problem: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds the pictures, loads the network, writes maps, scores and sheets."""
    options = parse(arguments)
    device = choose_device(options.device)
    clip = None if options.video is None else Clip(options.video)
    jobs = find_jobs(options) if clip is None else []
    check_places(jobs, options.out)
    loaded = load_network(options.weights)
    predictor = Predictor.from_loaded(loaded, device, options.precision, options.size)
    keep_memory()
    print(
        f"{loaded.source.stem} | {loaded.config.encoder} | {predictor.size} x {predictor.size} | batch {options.batch}"
    )
    print(banner(device, predictor.precision))
    conditions = describe(loaded, predictor, options.batch)
    if clip is not None:
        return film(predictor, clip, options, conditions)
    maker = MapMaker(predictor, options.out, drawn(options), options.batch, WORKERS)
    results = [score(make_maps(maker, job), options.out) for job in jobs]
    if options.sheet:
        for result in results:
            write_sheet(result, options.out)
    write_json(options.out, {**conditions, "jobs": [result_record(result) for result in results]})
    return report(results, loaded.source.stem, options.out)


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
    add("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="auto: bf16 where it is fast")
    add("--size", type=int, help="side of the square that the network sees; default: as it was trained")
    add("--batch", type=int, help="pictures that the network takes at once (default: 8; of a video 4)")
    add("--overlay", action=switch, help="the object in front of a dimmed ground, outlined")
    add("--cutout", action="store_true", help="the object alone, RGBA")
    add("--sheet", action=switch, help=f"a sheet of at most {SHEET_PICTURES} pictures beside their maps")
    options = parser.parse_args(arguments)
    if options.batch is None:
        options.batch = 8 if options.video is None else 4
    if options.batch < 1:
        raise UserError(f"--batch {options.batch}: at least 1.")
    if options.sheet and options.video is not None:
        raise UserError("--sheet: a video has none. Leave it out.")
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


def make_maps(maker: MapMaker, job: Job) -> Result:
    """Writes the maps of a job."""
    for note in job.notes:
        print(f"note: {note}")
    begin = time.perf_counter()
    with tqdm(total=len(job.tasks), desc=job.title, unit="picture", disable=None) as bar:
        failures = maker.make(job.tasks, bar.update)
    seconds = time.perf_counter() - begin
    failed = {failure.item for failure in failures}
    return Result(job, tuple(task for task in job.tasks if task not in failed), tuple(failures), seconds)


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
    image, saliency = read_image(task.image), read_mask(task.output(out, "maps"))
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


def describe(loaded: LoadedNetwork, predictor: Predictor, batch: int) -> dict[str, Any]:
    """All that results depend on, for `results.json`."""
    return {
        "weights": {"file": loaded.source.name, "sha256": loaded.sha256, **asdict(loaded.config)},
        "size": predictor.size,
        "batch": batch,
        "device": banner(predictor.device, predictor.precision),
        "precision": predictor.precision,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
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
        "failed": {str(failure.item.image): failure.reason for failure in result.failures},
        "seconds": round(result.seconds, 3),
        "scores": None if result.scores is None else asdict(result.scores.measures),
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
    print(f"{done} of {asked} pictures in {seconds:.1f} s, {done / seconds:.1f} pictures/s -> {out}/")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
