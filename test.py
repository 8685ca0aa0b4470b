"""Saliency maps of images, datasets and videos.

    python test.py                                           the lite model on the sample images
    python test.py --images PATH --cutout                    one image, or a folder whose tree is mirrored
    python test.py --images cat.jpg --cutout --out cat.png   one image to one file
    python test.py --data ECSSD=DIR PASCAL-S=DIR             datasets, scored beside the paper's Table 1
    python test.py --weights FILE.pth --data ECSSD=DIR       a checkpoint of the authors, recognised by its content
    python test.py --images DIR --resume                     resume a run that was stopped
    python test.py --images 'shards-{000..199}.tar' --out OUT     tar shards of WebDataset, maps as tar shards
    python test.py --images DIR --engine openvino --precision int8     another engine and precision
    torchrun --nproc-per-node 4 test.py --images DIR         a large folder, divided among processes or GPUs
    python test.py --video FILE --cutout                     a video; --video 0 is the first camera, Ctrl-C ends it

Files in `--out`:
    maps/                      8-bit PNG at the image's own size, 255 is salient; `maps/NAME/` of a dataset
    overlay/, cutout/          if asked for: the object on its dimmed background; the cutout (see --type)
    sheet.png, sheet_NAME.png  some images beside their maps
    scores.md, scores_NAME.csv tables, and the measures of every map
    NAME_overlay.mp4           a video with its sound; NAME_cutout.mov has alpha
    results.json               scores, speed, failures, and all that they depend on
    manifest.jsonl             what each map was made from, for --resume
Exit code: 0 when all was done, 1 when some images failed (they are listed), 2 when the request cannot be met.
"""

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inference.settings import SHEET_ROWS, TestSettings, read_settings
from utils.errors import UserError, exit_on_user_error, say

if TYPE_CHECKING:
    from data.image_io import Pixels
    from inference.cutouts import Style
    from inference.map_writer import MapWriter
    from inference.predictor import Predictor
    from inference.results import Result
    from inference.tasks import ImageSet, Outputs, Task
    from inference.video.reader import Clip
    from inference.weights import LoadedNetwork
    from training.processes import Processes

CALIBRATION_IMAGES = 100
MANY = 10_000  # images that tar shards are taken to hold, when the engine is chosen
PACKAGES = (
    "torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pillow", "pysodmetrics", "openvino",
    "onnxruntime", "nncf",
)  # fmt: skip


class Request(NamedTuple):
    """What to compute and where to write it."""

    clip: "Clip | None"
    sets: list["ImageSet"]
    style: "Style"
    outputs: "Outputs"
    loaded: "LoadedNetwork"


def main(words: Sequence[str] | None = None) -> int:
    """Parses the command line and runs; returns the exit code."""
    settings = read_settings(__doc__, words)
    # Heavy imports come after the parsing, so that --help and wrong options are answered at once.
    from inference.engines.choice import engine_device
    from training.processes import join

    processes = join(engine_device(settings.engine, settings.device))
    try:
        return run(settings, processes)
    finally:
        processes.leave()


def run(settings: TestSettings, processes: "Processes") -> int:
    """Finds the images and claims the outputs; in one process or started by torchrun."""
    from utils.paths import claim, release

    with processes.agreeing():
        request = find(settings, processes)
        lock = claim(request.outputs.out, request.outputs.file) if processes.first else None
        if lock is not None:
            request.outputs.remove_parts()
    try:
        return compute(settings, request, processes)
    finally:
        release(lock)


def compute(settings: TestSettings, request: Request, processes: "Processes") -> int:
    """Loads the engine, writes maps, scores and sheets; returns the exit code."""
    from inference import results
    from inference.map_writer import MapWriter
    from inference.refinement import Refinement

    outputs = request.outputs
    # The first process converts the network and chooses an engine; the others then load what it stored.
    with processes.first_before_others():
        predictor = build(settings, request, processes)
        conditions = describe(settings, request, predictor)
    shared = f" | {processes.world} processes" if processes.world > 1 else ""
    processes.print_once(
        f"{request.loaded.source.stem} | {request.loaded.config.encoder} | "
        f"{' and '.join(f'{size} x {size}' for size in conditions['sizes'])} | batch {settings.batch}{shared}\n"
        f"{conditions['device']}\nengine {predictor.engine.name}, {predictor.precision}: {predictor.engine.reason}"
    )
    if request.clip is not None:
        return write_video(settings, request, predictor, conditions)
    # The first process decides what stays; the others get its answer.
    with processes.agreeing():
        decided = open_outputs(settings, request, conditions) if processes.first else set()
    kept = processes.gather(decided)[0]
    writer = MapWriter(
        predictor, outputs, request.style, Refinement(settings.gain, settings.specks, settings.holes),
        settings.batch, settings.workers, round(settings.max_megapixels * 1e6), records=not outputs.file,
    )  # fmt: skip
    shares = processes.gather([write_maps(writer, each, kept, processes) for each in request.sets])
    if not processes.first:
        return 0  # the first process scores the maps of all and reports
    merged = [results.score(results.merge(parts), outputs) for parts in zip(*shares, strict=True)]
    problems = [problem for result in merged for problem in result.problems]
    results.print_problems(problems)  # first, since writing the rest may fail
    if settings.sheet:
        for result in merged:
            results.write_sheet(result, outputs, SHEET_ROWS)
    if not outputs.file:
        results.write_results(outputs.folder, conditions, merged)
    results.write_tables(merged, request.loaded.source.stem, outputs.folder)
    say(results.summary(merged, f"{outputs.out}" if outputs.file else f"{outputs.out}/"))
    return 1 if problems else 0


def find(settings: TestSettings, processes: "Processes") -> Request:
    """The images or the video, the outputs and the network; nothing is written yet.

    Raises:
        UserError: something is missing, contradictory, or an output would replace an input.
    """
    from inference.cutouts import Style
    from inference.tasks import Outputs, dataset_set
    from inference.weights import load_network, weights_path
    from settings.plugins import run_files

    run_files(settings.plugins)
    if settings.video is not None and processes.world > 1:
        raise UserError("--video: frames cannot be divided among processes. Start it without torchrun.")
    style = Style.parse(settings.type, settings.despill, settings.crop)
    clip = open_video(settings)
    sets: list[ImageSet] = []
    if clip is None:
        named = [dataset_set(name, root, settings.mask_values) for name, root in settings.data.items()]
        sets = named or [images_of(settings.images)]
    shards = any(each.shards for each in sets)
    if shards and settings.sheet:
        raise UserError(f"--sheet: there is none of the tar shards {settings.images}. Leave it out.")
    outputs = Outputs.of(settings.out, settings.kinds, sets, style)
    if outputs.file and (settings.sheet or settings.resume):
        raise UserError(f"--out {settings.out}: is one file; --sheet and --resume need a folder as --out.")
    weights = weights_path(settings.weights)
    check_paths(settings, sets, style, outputs, weights)
    loaded = load_network(weights)
    if shards and settings.precision == "int8" and settings.calibration is None and not ships_int8(settings, loaded):
        raise UserError("--precision int8: tar shards cannot be calibrated on. Give a folder as --calibration.")
    return Request(clip, sets, style, outputs, loaded)


def open_video(settings: TestSettings) -> "Clip | None":
    """The video that was asked for; the library that decodes it is imported only then."""
    if settings.video is None:
        return None
    from inference.video.reader import Clip

    return Clip(settings.video)


def images_of(path: Path) -> "ImageSet":
    """The images of a folder, a file, or of tar shards: `shards-{000..199}.tar`."""
    if path.suffix == ".tar":
        from inference.shards import shard_set  # it imports WebDataset, which takes seconds

        return shard_set(path)
    from inference.tasks import folder_set

    return folder_set(path)


def check_paths(
    settings: TestSettings, sets: Sequence["ImageSet"], style: "Style", outputs: "Outputs", weights: Path
) -> None:
    """Compares every input with every output.

    Raises:
        PathError: naming both.
    """
    from inference.manifest import NAME
    from inference.results import sheet_path
    from inference.tasks import KINDS, input_paths
    from utils.paths import refuse_overlaps

    more = [settings.calibration, None if settings.video is None else Path(settings.video)]
    more += [Path(settings.type)] if style.kind == "image" else []
    inputs = [*input_paths(sets), weights, *settings.plugins, *(path for path in more if path is not None)]
    written = [outputs.out]
    if not outputs.file:
        names = ["results.json", "scores.md", NAME, *(f"scores_{each.title}.csv" for each in sets)]
        written = [*(outputs.out / name for name in (*KINDS, *names))]
        written += [sheet_path(each, outputs) for each in sets if settings.sheet]
        written += [outputs.path(task, kind) for each in sets for task in each.tasks for kind in outputs.kinds]
    if settings.video is not None:
        from inference.video.writer import Target

        written = [Target.of(video_stem(settings, outputs.out), kind).path for kind in settings.kinds or ["overlay"]]
    refuse_overlaps((path for path in inputs if path.exists()), written)


def build(settings: TestSettings, request: Request, processes: "Processes") -> "Predictor":
    """The predictor on the engine that was asked for."""
    import torch

    from inference.map_writer import streams_for
    from inference.memory import keep_memory
    from inference.predictor import Predictor

    shards = any(each.shards for each in request.sets)
    count = sum(len(each.tasks) for each in request.sets) if not shards else MANY
    share = settings.batch * torch.get_num_threads() if request.clip is not None else -(-count // processes.world)
    predictor = Predictor.from_loaded(
        request.loaded, processes.device, settings.precision, None, settings.engine,
        calibration_images(settings, request), streams_for(share, settings.batch), settings.flip, settings.compile,
        settings.sizes, images=count if request.clip is None else None,
    )  # fmt: skip
    keep_memory()
    return predictor


def ships_int8(settings: TestSettings, loaded: "LoadedNetwork") -> bool:
    """Whether int8 needs no images: a calibrated file ships for every size."""
    from inference.engines.calibrated import calibrated_file

    sizes = settings.sizes or [loaded.size]
    return settings.engine != "onnxruntime" and all(calibrated_file(loaded, size) for size in sizes)


def calibration_paths(settings: TestSettings, request: Request) -> list[Path]:
    """Images for int8: some from all over `--calibration`, or over the run itself where no calibrated file ships."""
    from inference.tasks import folder_set

    if settings.precision != "int8" or (settings.calibration is None and ships_int8(settings, request.loaded)):
        return []
    sets = request.sets if settings.calibration is None else [folder_set(settings.calibration)]
    paths = [task.image for each in sets for task in each.tasks]
    return paths[:: max(1, -(-len(paths) // CALIBRATION_IMAGES))]


def calibration_images(settings: TestSettings, request: Request) -> Iterator["Pixels"]:
    """Those of `calibration_paths` that can be read; the run itself reports the others."""
    from data.image_io import ImageReadError, read_image

    for path in calibration_paths(settings, request):
        with suppress(ImageReadError):
            yield read_image(path)


def describe(settings: TestSettings, request: Request, predictor: "Predictor") -> dict[str, Any]:
    """All that results depend on, for `results.json`."""
    import torch

    from inference.manifest import Identity
    from utils.device import banner

    loaded = request.loaded
    calibration = [Identity.of(path).sha256 for path in calibration_paths(settings, request)]
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "weights": {"file": loaded.source.name, "sha256": loaded.sha256, **asdict(loaded.config)},
        "size": predictor.size,
        "sizes": [engine.size for engine in predictor.engines],
        "batch": settings.batch,
        "device": banner(predictor.device, predictor.precision),
        "engine": predictor.engine.name,
        "precision": predictor.precision,
        "reason": predictor.engine.reason,
        "calibration": calibration,
        "flip": predictor.flip,
        "refinement": {"gain": settings.gain, "specks": settings.specks, "holes": settings.holes},
        "cutout": {"type": settings.type, "crop": settings.crop, "despill": settings.despill},
        "max_megapixels": settings.max_megapixels,
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def open_outputs(settings: TestSettings, request: Request, conditions: dict[str, Any]) -> set[str]:
    """Removes earlier outputs that this run makes again; returns the names of the images whose outputs stay."""
    from inference.manifest import Manifest, remove_outputs
    from inference.results import write_json

    outputs, tasks = request.outputs, [task for each in request.sets for task in each.tasks]
    if outputs.file:
        return set()
    keys = ("sizes", "engine", "precision", "calibration", "flip", "refinement", "max_megapixels")
    manifest = Manifest(outputs.folder, {
        **{key: conditions[key] for key in keys},
        "weights": conditions["weights"]["sha256"],
        "cutout": conditions["cutout"] if settings.cutout else None,
        "library": conditions["versions"].get(conditions["engine"]),
    })  # fmt: skip
    if settings.resume and manifest.changed:
        say(f"note: --resume makes all maps again. Changed: {'; '.join(manifest.changed)}.")
    kept = manifest.kept(tasks, outputs) if settings.resume else set()
    remove_outputs([task for task in tasks if task.name not in kept], outputs)
    remove_outputs(manifest.stale(tasks), outputs)
    manifest.begin(tasks, kept)
    write_json(outputs.folder, {**conditions, "sets": []})
    return kept


def write_maps(writer: "MapWriter", images: "ImageSet", kept: set[str], processes: "Processes") -> "Result":
    """Writes this process's share of the maps of a set."""
    from tqdm import tqdm

    from inference.results import Result

    for note in images.notes:
        processes.print_once(f"note: {note}")
    tasks = images.tasks[processes.rank :: processes.world]
    if images.shards:
        return write_shards_of(writer, images, tasks, kept, processes)
    todo = len(writer.computed(tasks, kept))
    begin = time.perf_counter()
    with tqdm(total=todo, desc=images.title, unit="image", disable=None if processes.first else True) as bar:
        failures = writer.write(tasks, bar.update, kept)
    failed = {failure.item for failure in failures}
    done = tuple(task for task in tasks if task not in failed)
    stayed = sum(task.name in kept for task in tasks)
    return Result(images, done, tuple(failures), time.perf_counter() - begin, stayed)


def write_shards_of(
    writer: "MapWriter", images: "ImageSet", tasks: "Sequence[Task]", kept: set[str], processes: "Processes"
) -> "Result":
    """Writes this process's share of the shards of a set."""
    from tqdm import tqdm

    from inference.results import Result
    from inference.shards import write_shards

    begin = time.perf_counter()
    with tqdm(desc=images.title, unit="image", disable=None if processes.first else True) as bar:
        written = write_shards(writer, tasks, kept, bar.update)
    seconds, stayed = time.perf_counter() - begin, sum(task.name in kept for task in tasks)
    return Result(images, written.done, written.failures, seconds, stayed, members=written.images)


def write_video(settings: TestSettings, request: Request, predictor: "Predictor", conditions: dict[str, Any]) -> int:
    """Writes the overlay or the cutout of a video; returns the exit code."""
    from tqdm import tqdm

    from inference.refinement import Refinement
    from inference.results import print_problems, write_json
    from inference.video.convert import make_video

    clip, folder = request.clip, request.outputs.folder
    assert clip is not None
    stem = video_stem(settings, folder)
    begin = time.perf_counter()
    with tqdm(total=clip.length, desc=stem.name, unit="frame", disable=None) as bar:
        result = make_video(
            predictor, clip, stem, settings.kinds or ["overlay"], settings.batch, settings.workers, bar.update,
            settings.smooth, Refinement(settings.gain, settings.specks, settings.holes),
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    print_problems(result.problems)
    record = {**asdict(result), "files": [path.name for path in result.files], "seconds": round(seconds, 3)}
    write_json(folder, {**conditions, "video": {"source": clip.source, "smooth": settings.smooth, **record}})
    files = ", ".join(map(str, result.files))
    say(f"{result.found} frames in {seconds:.1f} s, {result.found / seconds:.1f} frames/s -> {files}")
    return 1 if result.problems else 0


def video_stem(settings: TestSettings, folder: Path) -> Path:
    """Path of a video's outputs without `_overlay.mp4` or `_cutout.mov`; a camera has a number."""
    source = settings.video or ""
    return folder / (f"camera{source}" if source.isdecimal() else Path(source).stem)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
