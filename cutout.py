"""Cuts the main object out of images, without PyTorch: pip install -r requirements-cutout.txt

    python cutout.py a.jpg                       writes a.cutout.png beside it
    python cutout.py a.jpg out.webp              the suffix decides: PNG, WebP, TIFF; JPEG with a background
    python cutout.py FOLDER OUT                  all images of a folder; its tree is mirrored in OUT
    cat a.jpg | python cutout.py - - > out.png   standard input to standard output
    python cutout.py a.jpg --type blur           another background; see --type
    python cutout.py a.jpg --crop 0.1            cropped to the object, with a margin

OUT is a file if it has the suffix of an image, else a folder. Without OUT, the cutouts of FOLDER go to FOLDER.cutout.
The EXIF orientation is applied; ICC profile and resolution are kept.
Exit code: 0 when all was done, 1 when some images failed (they are listed), 2 when the request cannot be met.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from utils.errors import UserError, exit_on_user_error, one_line

if TYPE_CHECKING:
    from inference.cutouts import Style
    from inference.onnx_maps import OnnxMaps

WEIGHTS = Path(__file__).resolve().parent / "weights"
PIPE = Path("-")
STANDARD_INPUT = "standard input"
MARGIN = 0.02
"""Margin of `--crop` without a number."""


@dataclass(frozen=True)
class Plan:
    """One image: where it comes from and where its cutout goes; `PIPE` is standard input or output."""

    image: Path
    out: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the request, then the images one by one."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    # Heavy imports follow the parsing, so that --help and mistakes are answered at once.
    with requirements():
        from inference.cutouts import Style

    style = Style.parse(options.type, options.despill, options.crop)
    plans, problems = plan(options.image, options.out, style)
    maps = open_model(options.model)
    failures = [failure for one in progress(plans) if (failure := cut(one, maps, style))]
    for failure in (*problems, *failures):
        print(f"error: {one_line(failure)}", file=sys.stderr)
    if len(plans) > 1:
        print(f"{len(plans) - len(failures)} of {len(plans)} images cut out")
    return 1 if failures or problems else 0


class Parser(argparse.ArgumentParser):
    """The standard library's parser; the one of the other programs needs packages that this one does without."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        sys.stderr.write(f"error: {one_line(message)}. See python cutout.py --help\n")
        raise SystemExit(2)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    heading, _, rest = (__doc__ or "").partition("\n")
    parser = Parser(
        "cutout.py", description=heading, epilog=rest, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("image", type=Path, metavar="IN", help="an image, a folder, or - for standard input")
    add("out", type=Path, nargs="?", metavar="OUT", help="a file, a folder, or - for standard output")
    add(
        "--type", default="rgba",
        help="rgba (default), map, white, green, a colour such as '#ff8000', blur, overlay, or a background image",
    )  # fmt: skip
    add(
        "--crop", type=float, metavar="MARGIN",
        help=f"crop to the object; the margin is a share of its longer side (default: {MARGIN})",
    )  # fmt: skip
    add("--no-despill", dest="despill", action="store_false", help="keep the old background's colour at the rim")
    add("--model", default="lite", help="a model of weights/, or an .onnx file of export.py (default: lite)")
    return parser.parse_intermixed_args(list(_with_margin(arguments)))  # OUT may follow an option


def _with_margin(arguments: Sequence[str]) -> Iterator[str]:
    """The words, with the default margin after a `--crop` that no number follows."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        yield word
        if word == "--crop" and not _is_number(following):
            yield str(MARGIN)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def plan(image: Path, out: Path | None, style: "Style") -> tuple[list[Plan], Sequence[str]]:
    """The images of a request and the places of their cutouts, checked before anything is written.

    Returns:
        the images; and a line for each file or folder that cannot be read.

    Raises:
        UserError: no image is there, or a cutout would replace an input or could not be written.
    """
    from inference.cutouts import SUFFIXES, check_format

    if image != PIPE and not image.exists():
        from settings.paths import hint

        raise UserError(f"{image}: no such file or folder. {hint(image)}")
    if image != PIPE and image.is_dir():
        return _plan_folder(image, out)
    if out is None:
        out = PIPE if image == PIPE else image.with_name(f"{image.stem}.cutout.png")
    elif out != PIPE and (out.is_dir() or out.suffix.lower() not in SUFFIXES):
        if out.suffix and not out.is_dir():
            check_format(out, style.has_alpha)
        out = out / ("cutout.png" if image == PIPE else f"{image.stem}.png")
    if out == PIPE:
        if sys.stdout.isatty():
            raise UserError("-: standard output is a terminal. Write `> out.png` after the command.")
    else:
        check_format(out, style.has_alpha)
        _refuse_overlaps([image], out)
    return [Plan(image, out)], ()


def _plan_folder(folder: Path, out: Path | None) -> tuple[list[Plan], Sequence[str]]:
    from inference.cutouts import SUFFIXES
    from inference.tasks import folder_set

    if out is None:
        whole = folder.resolve()
        out = whole.with_name(f"{whole.name}.cutout")
    if out == PIPE or out.suffix.lower() in SUFFIXES:
        raise UserError(f"OUT is {out}, but {folder} is a folder. Give a folder.")
    if out.is_file():
        raise UserError(f"{out}: is a file, but {folder} is a folder. Give a folder.")
    images = folder_set(folder)
    _refuse_overlaps([folder], out)
    for note in images.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    return [Plan(task.image, out / f"{task.name}.png") for task in images.tasks], images.problems


def _refuse_overlaps(inputs: Sequence[Path], out: Path) -> None:
    from utils.paths import refuse_overlaps

    refuse_overlaps([path for path in inputs if path != PIPE], [out])


@contextmanager
def requirements() -> Iterator[None]:
    """A block of imports.

    Raises:
        UserError: a package of requirements-cutout.txt is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"cutout.py needs the package {error.name}, which is not installed. Run pip install -r "
            f"requirements-cutout.txt; or use python test.py --images IMAGE --cutout, which needs requirements.txt."
        ) from None


def open_model(name: str) -> "OnnxMaps":
    """The model of that name in weights/, or a file.

    Raises:
        UserError: there is none, ONNX Runtime is not installed, or it cannot read the model.
    """
    with requirements():
        from inference.onnx_maps import OnnxMaps

    known = sorted(path.stem for path in WEIGHTS.glob("*.onnx"))
    if name not in known and not Path(name).is_file():
        raise UserError(f"--model {name}: neither a model of weights/ ({', '.join(known)}) nor a file of export.py.")
    return OnnxMaps(WEIGHTS / f"{name}.onnx" if name in known else Path(name))


def progress(plans: Sequence[Plan]) -> Iterator[Plan]:
    """The plans, with a progress bar if there are several."""
    if len(plans) < 2:
        yield from plans
        return
    from tqdm import tqdm

    yield from tqdm(plans, desc="cutout", unit="image", disable=None)


def cut(one: Plan, maps: "OnnxMaps", style: "Style") -> str | None:
    """Makes one cutout.

    Returns:
        What went wrong, if anything.
    """
    from data.image_io import ImageReadError, read_image_with_metadata
    from inference.cutouts import encode, write_cutout
    from inference.saliency import to_8bit

    try:
        with _as_file(one.image) as path:
            image, metadata = read_image_with_metadata(path)
    except ImageReadError as error:
        return str(error) if one.image != PIPE else f"{STANDARD_INPUT}{str(error).partition(STANDARD_INPUT)[2]}"
    composed = style.compose(image, to_8bit(maps(image)))
    try:
        if one.out == PIPE:
            _to_standard_output(encode(composed, ".png", metadata.profile, metadata.dpi))
        else:
            write_cutout(one.out, composed, metadata.profile, metadata.dpi)
    except UserError as error:
        return str(error)
    return None


@contextmanager
def _as_file(image: Path) -> Iterator[Path]:
    """A path of the image; standard input is stored in a temporary file meanwhile."""
    if image != PIPE:
        yield image
        return
    with tempfile.TemporaryDirectory(prefix="cutout.") as folder:
        path = Path(folder) / STANDARD_INPUT
        path.write_bytes(sys.stdin.buffer.read())
        yield path


def _to_standard_output(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Python would try again when it ends, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"-: standard output cannot be written ({error.strerror}).") from None


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
