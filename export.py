"""Exports a network to one file that takes raw RGB images of any size and gives their maps, and checks it.

    python export.py                                         the lite model as runs/export/lite.onnx
    python export.py --engine openvino                       as OpenVINO IR: lite.xml and lite.bin
    python export.py --engine openvino --precision int8 --calibration DIR     quantised, calibrated on your images
    python export.py --weights FILE.pth --data ECSSD=DIR     checked on a dataset too: how every score changes
    python export.py --form network --out weights/lite.onnx  what cutout.py and web/ run, with float16 kernels
    python export.py --form network --engine openvino --precision int8 --calibration DIR   what test.py runs in int8
    python export.py --verify runs/export/lite.onnx          checks a file on this machine again

Input (B, H, W, 3) uint8 RGB, any B, H and W; output (B, H, W) float32 in [0, 1]. Normalisation, both resizes and the
sigmoid are inside. The file is run on real images (`--images`, else the sample images) beside PyTorch in float32. The
greatest and the mean difference are printed and stored in it. It is written only if they are small.
See examples/ for programs that run it with ONNX Runtime or OpenVINO alone.
Exit code: 0, or 2 when the export cannot be made or does not keep the maps.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from inference.export_records import FORMS, SUFFIXES
from inference.settings import SAMPLES, EngineName, EnginePrecision
from settings.limits import Side
from settings.parser import arguments, named_folders
from utils.errors import UserError, exit_on_user_error, say
from utils.files import part_of, remove_parts
from utils.paths import claim, refuse_overlaps, release

if TYPE_CHECKING:
    from inference.engines.exported import Exported
    from inference.export_check import Differences
    from inference.weights import LoadedNetwork

ALLOWED = {"fp32": 1e-4, "bf16": 1 / 255, "fp16": 1 / 255, "int8": 0.02}
"""Largest mean difference of a file's maps from PyTorch's in float32, by precision."""
GREATEST = 1e-3
"""Largest difference at any pixel of a file in float32; 2e-5 is usual."""


def main(words: Sequence[str] | None = None) -> int:
    """Exports, checks and writes a file; or checks an existing one."""
    options = parse(words)
    from settings.plugins import run_files

    run_files(options.plugins)
    return export(options) if options.verify is None else verify(options)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = arguments(__doc__, "export.py")
    add: Callable[..., object] = parser.add_argument
    add("--weights", default="lite", metavar="NAME|FILE", help="shipped name, .safetensors, .pt, or an authors' .pth")
    add("--engine", default="auto", choices=get_args(EngineName), help="auto: ONNX, which most runtimes read")
    add("--precision", default="auto", choices=get_args(EnginePrecision), help="auto: fp32")
    add("--form", default="image", choices=tuple(FORMS), help="image: raw RGB to maps; network: tensor to logits")
    add("--out", type=Path, metavar="FILE", help="default: runs/export/NAME and the suffix of the engine")
    add("--size", type=Side, metavar="N", help="side of the network's input; default: that of the training")
    add("--plugins", "--operations", type=Path, nargs="+", default=[], metavar="FILE",
        help="Python files that register operations or encoders of yours")  # fmt: skip
    add("--calibration", type=Path, metavar="DIR", help="typical images, which int8 needs; 300 are plenty")
    add("--bias-correction", choices=("once", "layers"),
        help="of int8: all at once (default), or layer after layer, in minutes and with most maps nearer")  # fmt: skip
    add("--images", type=Path, default=SAMPLES, metavar="PATH", help="images to check on; default: data/samples")
    add("--data", nargs="+", action="extend", metavar="NAME=DIR", help="datasets with masks: how scores change")
    add("--verify", type=Path, metavar="FILE", help="check a file that was exported before; writes nothing")
    return parser.parse_args(words)


def export(options: argparse.Namespace) -> int:
    """Converts a network, checks the file and moves it into its place; returns the exit code."""
    import torch

    from inference import exporting
    from inference.engines.conversion import file_size
    from inference.engines.exported import open_exported, save
    from inference.tasks import folder_set
    from inference.weights import load_network
    from utils.device import banner

    loaded = load_network(options.weights)
    kind = exporting.choose(options.engine, options.precision, options.form)
    if options.calibration is not None and kind.precision != "int8":
        raise UserError(f"--calibration: only int8 is calibrated, not {kind.precision}. Leave it out, or use int8.")
    if options.bias_correction is not None and kind.precision != "int8":
        raise UserError(f"--bias-correction: only int8 has one, not {kind.precision}. Leave it out, or use int8.")
    out, size = place(options, loaded.source, kind.engine), options.size or loaded.size
    # Found before the network is converted, which takes a while.
    images = [task.image for task in folder_set(options.images).tasks]
    benchmarks = named_folders(options.data or [], "--data")
    calibration = [] if options.calibration is None else [task.image for task in folder_set(options.calibration).tasks]
    refuse_overlaps(
        [loaded.source, *images, *calibration, *benchmarks.values(), *options.plugins], [out, out.with_suffix(".bin")]
    )
    say(banner(torch.device("cpu"), kind.precision))
    with ExitStack() as stack:
        stack.callback(release, claim(out, file=True))
        folder = stack.enter_context(scratch_beside(out))
        model = exporting.convert(loaded, size, kind, calibration, options.bias_correction == "layers")
        record = exporting.describe(loaded, size, kind)
        part, half = folder / out.name, kind.precision == "fp16"
        save(model, part, record, half)
        record["checks"] = check(open_exported(part), loaded, size, images, benchmarks, folder)
        save(model, part, record, half)
        if part.with_suffix(".bin").is_file():
            out.unlink(missing_ok=True)  # a killed run must not leave an .xml with the .bin of another
        for suffix in (".bin", out.suffix):
            if part.with_suffix(suffix).is_file():
                part.with_suffix(suffix).replace(out.with_suffix(suffix))
    say(f"{out} ({file_size(out) / 1e6:.1f} MB)")
    return 0


def place(options: argparse.Namespace, source: Path, engine: str) -> Path:
    """The file to write.

    Raises:
        UserError: its suffix is not that of the engine.
    """
    out = options.out or Path("runs/export") / f"{source.stem}{SUFFIXES[engine]}"
    if out.suffix != SUFFIXES[engine]:
        raise UserError(f"--out {out}: a file for {engine} ends in {SUFFIXES[engine]}. Rename it, or change --engine.")
    return out


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the file system of the output; what killed runs left there is removed.

    Raises:
        UserError: nothing can be written there.
    """
    remove_parts(out.parent, stem=out.stem)
    folder = part_of(out)
    try:
        folder.mkdir()
    except OSError as error:
        raise UserError(f"--out {out}: can't be written there ({error.strerror or error}).") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(
    exported: "Exported", loaded: "LoadedNetwork", size: int, images: Sequence[Path],
    benchmarks: Mapping[str, Path], scratch: Path,
) -> dict[str, Any]:  # fmt: skip
    """Compares a file with PyTorch in float32 and prints the differences.

    Raises:
        UserError: the maps differ by more than `ALLOWED` on average, or in float32 by `GREATEST` anywhere.
    """
    import torch

    from inference.export_check import change_lines, compare, score_changes
    from inference.predictor import Predictor

    predictor = Predictor.from_loaded(loaded, torch.device("cpu"), "fp32", size, "torch")
    found = compare(predictor, exported.run, images)
    say(described(found))
    precision = exported.record["precision"]
    allowed = ALLOWED[precision]
    if precision == "fp32" and not found.greatest <= GREATEST:
        raise UserError(
            f"the maps differ from PyTorch's by {found.greatest:.5f} at one pixel, more than the {GREATEST} that "
            f"float32 may have; nothing was written. Install the packages of requirements-deploy.txt in its versions."
        )
    if not found.mean <= allowed:
        raise UserError(
            f"the maps differ from PyTorch's by {found.mean:.5f} on average, more than the {allowed:.5f} that "
            f"{precision} may have; nothing was written. Use fp32, or other calibration images."
        )
    checks: dict[str, Any] = {"differences": asdict(found), "scores": {}}
    for name, root in benchmarks.items():
        checks["scores"][name] = score_changes(predictor, exported.run, root, scratch / name)
        say("\n".join(change_lines(name, checks["scores"][name])))
    return checks


def described(found: "Differences") -> str:
    """The differences on one line."""
    return (
        f"against PyTorch float32 on {found.images} images: greatest difference {found.greatest:.2e}, "
        f"mean {found.mean:.2e}, of the worst image {found.worst:.2e}"
    )


def verify(options: argparse.Namespace) -> int:
    """Checks a file on this machine against the weights that it was made from; returns the exit code."""
    from inference.engines.exported import open_exported
    from inference.tasks import folder_set
    from inference.weights import load_network

    exported = open_exported(options.verify)
    loaded = load_network(options.weights)
    expected, given = exported.record["weights"]["sha256"], loaded.sha256
    if expected != given:
        raise UserError(
            f"{options.verify}: was made from {exported.record['weights']['file']} ({expected[:12]}), but --weights "
            f"{options.weights} is {given[:12]}. Give the weights that it was made from."
        )
    say(json.dumps({key: value for key, value in exported.record.items() if key != "checks"}))
    with tempfile.TemporaryDirectory() as scratch:
        images = [task.image for task in folder_set(options.images).tasks]
        benchmarks = named_folders(options.data or [], "--data")
        check(exported, loaded, exported.record["size"], images, benchmarks, Path(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
