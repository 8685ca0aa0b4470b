"""Settings of test.py and of the engines. No PyTorch here, so that `--help` is quick."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from settings.limits import Limit, Share, Side
from settings.parser import Parser, arguments, named_folders
from utils.errors import UserError
from utils.hardware import DeviceName

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
EnginePrecision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
SHEET_ROWS = 12
MARGIN = 0.02  # of --crop without a number
LARGEST_BATCH = 1024
MOST_WORKERS = 64
MEGAPIXELS = 178.956970  # 512 MiB of RGB, the limit of Pillow


@dataclass(frozen=True)
class TestSettings:
    """What test.py was asked for; each attribute is the option of its name.

    Attributes:
        data: datasets with masks by name; empty without `--data`.
        images: an image or a folder of images; the samples where neither data nor video is given.
        sizes: sides of the network's input; empty for that of the training.
        crop: margin around the object's box as a share of its longer side; None without `--crop`.
        batch: most images that the network takes at once.
        plugins: Python files of the user's.
    """

    __test__ = False  # not a test class of pytest

    weights: str
    images: Path
    data: dict[str, Path]
    video: str | None
    smooth: bool
    out: Path
    device: DeviceName
    engine: EngineName
    precision: EnginePrecision
    calibration: Path | None
    compile: bool
    plugins: tuple[Path, ...]
    sizes: tuple[int, ...]
    flip: bool
    batch: int
    workers: int
    max_megapixels: float
    mask_values: str
    resume: bool
    overlay: bool
    cutout: bool
    sheet: bool
    type: str
    crop: float | None
    despill: bool
    gain: float
    specks: float
    holes: float

    @property
    def kinds(self) -> tuple[str, ...]:
        """What to write for each image beside its map."""
        return tuple(kind for kind in ("overlay", "cutout") if getattr(self, kind))


def read_settings(doc: str | None, words: Sequence[str] | None = None) -> TestSettings:
    """Parses the command line of test.py.

    Args:
        doc: docstring of the program, for the help.
        words: instead of the program's own arguments.

    Raises:
        UserError: two options contradict each other.
        SystemExit: with code 2 and one line on an unknown option, a wrong type or a number out of range.
    """
    parser = arguments(doc, "test.py")
    _add_inputs(parser)
    _add_network(parser)
    _add_outputs(parser)
    options = parser.parse_args(words)
    values = {key: value for key, value in vars(options).items() if key in TestSettings.__dataclass_fields__}
    sources = [name for name in ("images", "data", "video") if values[name] is not None]
    if len(sources) > 1:
        raise UserError(f"--{sources[0]} and --{sources[1]}: give one of them.")
    video = values["video"] is not None
    for name in ("sheet", "resume"):
        if values[name] and video:
            raise UserError(f"--{name}: a video has none. Leave it out.")
    for name, usual in (("type", "rgba"), ("crop", None), ("despill", True)):
        if values[name] != usual and video:
            raise UserError(f"--{name}: cutouts of a video have alpha and the size of its frames. Leave it out.")
    if values["smooth"] and not video:
        raise UserError("--smooth: only the maps of a --video are smoothed. Leave it out.")
    if options.size is not None and options.sizes:
        raise UserError("--size and --sizes: give one of them.")
    if values["calibration"] is not None and values["precision"] != "int8":
        raise UserError("--calibration: only --precision int8 is calibrated. Leave it out, or use int8.")
    for name in ("overlay", "sheet"):  # the defaults for the samples
        values[name] = not sources if values[name] is None else values[name]
    values["images"] = values["images"] or SAMPLES
    values["data"] = named_folders(values["data"] or [], "--data")
    values["batch"] = values["batch"] or (4 if video else 8)
    values["sizes"] = tuple(options.sizes or [options.size] * (options.size is not None))
    values["plugins"] = tuple(options.plugins)
    return TestSettings(**values)


def _adder(parser: Parser) -> Callable[..., object]:
    """`add_argument`, which takes annotated types too."""
    return parser.add_argument


def _add_inputs(parser: Parser) -> None:
    add = _adder(parser)
    add("--weights", default="lite", metavar="NAME|FILE", help="shipped name, .safetensors, .pt, or an authors' .pth")
    add("--images", type=Path, metavar="PATH", help="an image or a folder; default: data/samples")
    add("--data", nargs="+", action="extend", metavar="NAME=DIR", help="datasets with masks, which are scored")
    add("--video", metavar="FILE|0", help="a video, or the number of a camera")
    add("--smooth", action="store_true", help="steady the maps of a video: optical flow carries the last one along")
    add("--max-megapixels", type=Annotated[float, Limit(above=0, most=1e5)], default=MEGAPIXELS, metavar="N",
        help="larger images are scaled while they are decoded (JPEG) or refused")  # fmt: skip
    add("--mask-values", default="auto", metavar="VALUES",
        help="foreground in masks: auto, nonzero, alpha, or values such as 1,128..255")  # fmt: skip
    add("--plugins", "--operations", type=Path, nargs="+", default=[], metavar="FILE",
        help="Python files that register operations or encoders of yours")  # fmt: skip


def _add_network(parser: Parser) -> None:
    add = _adder(parser)
    add("--device", default="auto", choices=get_args(DeviceName), help="default: auto")
    add("--engine", default="auto", choices=get_args(EngineName), help="auto: the fastest whose maps are right")
    add("--precision", default="auto", choices=get_args(EnginePrecision), help="auto: the fastest whose maps are right")
    add("--calibration", type=Path, metavar="DIR", help="images for int8; default: a shipped file, or those of the run")
    add("--compile", action="store_true", help="PyTorch: torch.compile; takes a minute, pays on GPUs")
    add("--size", type=Side, metavar="N", help="side of the network's input; default: that of the training")
    add("--sizes", type=Side, nargs="+", metavar="N", help="several sides, such as 224 288: the mean of their logits")
    add("--flip", action="store_true", help="average with the mirror image: slightly better, twice the time")
    add("--batch", type=Annotated[int, Limit(1, LARGEST_BATCH)], metavar="N",
        help="most images that the network takes at once; default: 8, video 4")  # fmt: skip
    add("--workers", type=Annotated[int, Limit(1, MOST_WORKERS)], default=4, metavar="N",
        help="threads that read, and as many that write")  # fmt: skip


def _add_outputs(parser: Parser) -> None:
    add, switch = _adder(parser), argparse.BooleanOptionalAction
    add("--out", type=Path, default=Path("runs/test"), metavar="DIR|FILE",
        help="folder of the outputs; or, for one image, a file such as cat.png")  # fmt: skip
    add("--resume", action="store_true", help="keep the maps that these settings made of the same images")
    add("--overlay", action=switch, help="the object on its dimmed background, outlined")
    add("--cutout", action="store_true", help="the object alone")
    add("--sheet", action=switch, help=f"a sheet of at most {SHEET_ROWS} images beside their maps")
    add("--type", default="rgba", metavar="TYPE",
        help="of a cutout: rgba, map, white, green, blur, overlay, a colour, or a background image")  # fmt: skip
    add("--crop", type=Share, nargs="?", const=MARGIN, metavar="MARGIN",
        help=f"crop cutouts to the object; MARGIN is a share of its longer side (default: {MARGIN})")  # fmt: skip
    add("--despill", action=switch, default=True, help="remove the old background from the rim of cutouts")
    add("--gain", type=Annotated[float, Limit(above=0, most=100)], default=1.0, metavar="X",
        help="factor of the logits; above 1 the maps are more decided")  # fmt: skip
    add("--specks", type=Share, default=0.0, metavar="X", help="remove parts below this share of the largest part")
    add("--holes", type=Share, default=0.0, metavar="X", help="fill holes below this share of the largest part")
