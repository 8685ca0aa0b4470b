"""Exports a network to one file that takes raw RGB pictures of any size and gives their maps, and proves it.

    python export.py                                         the lite model as runs/export/lite.onnx
    python export.py --engine openvino                       as OpenVINO IR: lite.xml and lite.bin
    python export.py --engine openvino --precision int8 --calibration DIR     quantised, calibrated on your pictures
    python export.py --weights FILE.pth --data ECSSD=DIR     checked on a benchmark too: how every score changes
    python export.py --form network --out weights/lite.onnx  what cutout.py and web/ run, with float16 kernels
    python export.py --verify runs/export/lite.onnx          checks a file on this machine again

Input (B, H, W, 3) uint8 RGB, any B, H and W; output (B, H, W) float32 in [0, 1]. Normalisation, both resizes and the
sigmoid are inside. OpenVINO maps a picture that is one pixel wide or high wrongly: give it two. Each file is run on
real pictures (`--images`, else the sample photographs) beside PyTorch in float32; the greatest and the mean difference
are printed and stored in it. It is written only if they are small.
See examples/ for programs that run it with ONNX Runtime or OpenVINO alone.
Exit code: 0, or 2 when the export cannot be made or does not keep the maps.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from torch.export import Dim

from data.image_io import ImageReadError, read_image
from inference.compact import compact
from inference.end_to_end import EndToEnd
from inference.engines import conversion
from inference.engines.base import EngineError, EngineName, EnginePrecision, require, version
from inference.engines.exported import SUFFIXES, Exported, open_exported, save
from inference.engines.openvino_engine import precisions
from inference.export_check import Differences, change_lines, compare, score_changes
from inference.export_records import FORMS, Record
from inference.folding.network import fold
from inference.predictor import Predictor
from inference.tasks import folder_set
from inference.weights import LoadedNetwork, load_network
from utils.config import named_folders
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.plugins import run_files

SAMPLES = Path(__file__).resolve().parent / "data" / "samples"
PRECISIONS = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "fp16", "int8"), "torch": ("fp32",)}
PACKAGES = {"onnxruntime": ("torch", "onnx", "onnxscript", "onnxruntime"), "openvino": ("torch", "openvino"),
            "torch": ("torch",)}  # fmt: skip
CALIBRATION_PICTURES = 300
ALLOWED = {"fp32": 1e-4, "bf16": 1 / 255, "fp16": 1 / 255, "int8": 0.02}
"""Largest mean difference of a file's maps from PyTorch's in float32, by precision."""
GREATEST = 1e-3
"""Largest difference at any pixel of a file in float32; 2e-5 is usual."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports, checks, writes; or checks a file that is there."""
    options = parse(arguments)
    run_files(options.plugins)
    if options.verify is not None:
        return verify(options)
    loaded = load_network(options.weights)
    engine, precision = choose(options.engine, options.precision)
    if options.form == "network" and (engine, precision) != ("onnxruntime", "fp32"):
        raise UserError(f"--form network: exists for onnxruntime in fp32, not for {engine} in {precision}.")
    out = options.out or Path("runs/export") / f"{loaded.source.stem}{SUFFIXES[engine]}"
    if out.suffix != SUFFIXES[engine]:
        raise UserError(f"--out {out}: a file for {engine} ends in {SUFFIXES[engine]}. Rename it, or change --engine.")
    print(banner(torch.device("cpu"), precision))
    size = loaded.size if options.size is None else options.size
    if size < 32:
        raise UserError(f"--size {size}: at least 32 pixels.")
    # Read before the network is converted, which takes a while.
    pictures = [task.image for task in folder_set(options.images).tasks]
    benchmarks = named_folders(options.data or [], "--data")
    model = convert(loaded, size, engine, precision, options)
    record = describe(loaded, size, engine, precision, options.form)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".export.", dir=out.parent)
    except OSError as error:
        raise UserError(f"--out {out}: can't be written there ({error.strerror or error}).") from None
    with scratch as folder:
        part = Path(folder) / out.name
        save(model, part, record, half=precision == "fp16")
        record["checks"] = check(open_exported(part), loaded, size, pictures, benchmarks, Path(folder))
        save(model, part, record, half=precision == "fp16")
        for suffix in (".bin", out.suffix):
            if part.with_suffix(suffix).is_file():
                part.with_suffix(suffix).replace(out.with_suffix(suffix))
    print(f"{out} ({conversion.file_size(out) / 1e6:.1f} MB)")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "export.py", description=heading, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default="lite", metavar="NAME|FILE", help="shipped name, .safetensors, .pt, or an authors' .pth")
    add("--engine", default="auto", choices=get_args(EngineName), help="auto: ONNX, which most runtimes read")
    add("--precision", default="auto", choices=get_args(EnginePrecision), help="auto: fp32")
    add("--form", default="image", choices=tuple(FORMS), help="image: raw RGB to maps; network: tensor to logits")
    add("--out", type=Path, metavar="FILE", help="default: runs/export/NAME and the suffix of the engine")
    add("--size", type=int, help="side of the square that the network sees; default: as it was trained")
    add(
        "--plugins",
        "--operations",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files that register your own parts",
    )
    add("--calibration", type=Path, metavar="DIR", help="typical pictures, which int8 needs; 300 are plenty")
    add("--images", type=Path, default=SAMPLES, metavar="PATH", help="pictures to check on; default: data/samples")
    add("--data", nargs="+", action="extend", metavar="NAME=DIR", help="pictures with masks: how scores change")
    add("--verify", type=Path, metavar="FILE", help="check a file that was exported before; writes nothing")
    return parser.parse_args(arguments)


def choose(engine: EngineName, precision: EnginePrecision) -> tuple[str, str]:
    """What is written: `auto` is ONNX in float32.

    Raises:
        EngineError: a file for that engine has not that precision, or the engine is not installed.
    """
    chosen = "onnxruntime" if engine == "auto" else engine
    for package in PACKAGES[chosen]:
        require(package, f"--engine {chosen}")
    wanted = "fp32" if precision == "auto" else precision
    if wanted not in PRECISIONS[chosen]:
        known = ", ".join(PRECISIONS[chosen])
        raise EngineError(f"--precision {wanted}: a file for {chosen} has {known}. Take one of them.")
    if wanted == "bf16" and "bf16" not in precisions():
        raise EngineError("--precision bf16: this processor does not compute in it, so no check is possible. Use fp32.")
    return chosen, wanted


def convert(loaded: LoadedNetwork, size: int, engine: str, precision: str, options: argparse.Namespace) -> Any:
    """The network from raw pictures to maps, in the engine's own form; quantised if asked for.

    Raises:
        EngineError: int8 without pictures, or NNCF is not installed.
    """
    if options.calibration is not None and precision != "int8":
        raise EngineError(
            f"--calibration: only int8 is calibrated, not {precision}. Leave it out, or add --precision int8."
        )
    calibration = [] if options.calibration is None else [task.image for task in folder_set(options.calibration).tasks]
    if precision == "int8" and not calibration:
        raise EngineError("--precision int8: is calibrated on pictures. Give some of yours: --calibration DIR.")
    if options.form == "network":
        return network_form(loaded, size)
    network = EndToEnd(loaded.network, size)
    example = {"image": torch.zeros(2, 90, 120, 3, dtype=torch.uint8)}
    dynamic = {"image": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
    if engine == "torch":
        return torch.export.export(network, tuple(example.values()), dynamic_shapes=dynamic)
    if engine == "openvino":
        model = conversion.to_openvino(network, example, dynamic, ["saliency"])
    else:
        model = conversion.to_onnx(network, example, ["saliency"], dynamic)
    if precision != "int8":
        return model
    step = -(-len(calibration) // CALIBRATION_PICTURES)
    samples = [path for path in calibration[::step] if readable(path)]
    return conversion.quantise(model, samples, "--precision int8", lambda path: {"image": read_image(path)[None]})


def network_form(loaded: LoadedNetwork, size: int) -> Any:
    """The network alone as ONNX: (1, 3, S, S) prepared float32 to (1, 1, S, S) logits; kernels in float16."""
    example = {"image": torch.zeros(1, 3, size, size)}
    model = conversion.to_onnx(fold(loaded.network, size), example, ["logits"], {})
    compact(model, loaded.network)
    return model


def readable(path: Path) -> bool:
    """Whether a picture can be read; says so if not."""
    try:
        read_image(path)
    except ImageReadError as error:
        print(f"note: left out of the calibration: {error}", file=sys.stderr)
        return False
    return True


def describe(loaded: LoadedNetwork, size: int, engine: str, precision: str, form: str) -> Record:
    """What a file says of itself; `checks` are added when they are made."""
    return {
        "format": FORMS[form],
        "weights": {"file": loaded.source.name, "sha256": loaded.sha256, **asdict(loaded.config)},
        "size": size,
        "precision": precision,
        "versions": {name: version(name) for name in (*PACKAGES[engine], *(["nncf"] if precision == "int8" else []))},
    }


def check(
    exported: Exported,
    loaded: LoadedNetwork,
    size: int,
    pictures: Sequence[Path],
    benchmarks: Mapping[str, Path],
    scratch: Path,
) -> dict[str, Any]:
    """Compares a file with PyTorch in float32, prints what it found.

    Raises:
        UserError: the maps differ by more than `ALLOWED` on average, or in float32 by `GREATEST` anywhere.
    """
    predictor = Predictor.from_loaded(loaded, torch.device("cpu"), "fp32", size, "torch")
    found = compare(predictor, exported.run, pictures)
    print(told(found))
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
            f"{precision} may have; nothing was written. Use fp32, or other calibration pictures."
        )
    checks: dict[str, Any] = {"differences": asdict(found), "scores": {}}
    for name, root in benchmarks.items():
        checks["scores"][name] = score_changes(predictor, exported.run, root, scratch / name)
        print("\n".join(change_lines(name, checks["scores"][name])))
    return checks


def told(found: Differences) -> str:
    """One line."""
    return (
        f"against PyTorch float32 on {found.pictures} pictures: greatest difference {found.greatest:.2e}, "
        f"mean {found.mean:.2e}, of the worst picture {found.worst:.2e}"
    )


def verify(options: argparse.Namespace) -> int:
    """Checks a file on this machine, against the weights that it was made from."""
    exported = open_exported(options.verify)
    loaded = load_network(options.weights)
    expected, given = exported.record["weights"]["sha256"], loaded.sha256
    if expected != given:
        raise UserError(
            f"{options.verify}: was made from {exported.record['weights']['file']} ({expected[:12]}), but --weights "
            f"{options.weights} is {given[:12]}. Give the weights that it was made from."
        )
    print(json.dumps({key: value for key, value in exported.record.items() if key != "checks"}))
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [task.image for task in folder_set(options.images).tasks]
        benchmarks = named_folders(options.data or [], "--data")
        check(exported, loaded, exported.record["size"], pictures, benchmarks, Path(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
