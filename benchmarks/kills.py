"""Kills every program at random moments, then runs the same command again: the files must be those of a whole run.

    python benchmarks/kills.py --times 10

For each program, one run is left alone. Then, `--times` times, the program is killed (SIGKILL) at a moment that the
seed draws from the duration of the whole run. Every file that it left must be whole, and the same command must end with
the same files. Each time begins without outputs and without a cache; the second run finds the cache of the killed one.

Two files are the same if their bytes are. Of JSON the times, speeds and memory do not count, of .pt files the values
are compared, and TensorBoard's files, whose names hold the time, are left out. Programs start in processes that have
the libraries loaded already, so that a kill meets the program's own work. Exit code 1 where anything differed.
"""

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import write_png
from data.layouts import find_pairs
from data.masks import read_mask
from data.synthetic import write_scenes
from evaluation.tables.writer import Table, markdown
from settings.limits import Count, OptionalCount
from settings.parser import arguments
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text

CACHE = "cache"
ROOT = Path(__file__).resolve().parents[1]
LOADED = [
    "torch._dynamo", "torch.utils.tensorboard", "training.run", "nas.search_state", "nas.strategies.run",
    "nas.search_report", "inference.predictor", "inference.contact_sheet", "evaluation.report.outputs",
    "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg", "torch.export._trace",
    "onnxscript.function_libs.torch_lib.ops", "docstring_parser", "PIL.WebPImagePlugin", "PIL.BmpImagePlugin",
    "PIL.TiffImagePlugin", "PIL.GifImagePlugin", "PIL.PpmImagePlugin", "PIL.AvifImagePlugin", "PIL.Jpeg2KImagePlugin",
]  # fmt: skip
"""What the programs import, for a process that forks them. Those that are not installed are left out."""
TIMED = ("time", "times", "seconds", "minutes", "kept", "train/images_per_s", "train/memory_mib")
"""Keys of JSON whose values depend on the moment."""
ENDS = {".pdf": b"%%EOF", ".svg": b"</svg>", ".html": b"</html>"}
SMALL = ("--device", "cpu", "--precision", "fp32", "--data.workers", "0")


@dataclass(frozen=True)
class Case:
    """A program with its arguments, without its output."""

    program: str
    arguments: tuple[str, ...]
    out: str = "out"


@dataclass
class Found:
    """What became of the kills of a program.

    Attributes:
        files: number of files that it writes.
        kills: runs that were killed.
        partial: those that had written some files by then, but not all.
        damaged: files that a killed run left and that are not whole, of all kills.
        failed: second runs that ended with an error.
        different: files that differed after the second run, of all kills.
    """

    files: int = 0
    kills: int = 0
    partial: int = 0
    damaged: list[str] = field(default_factory=list)
    failed: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all was as it must be."""
        return not (self.damaged or self.failed or self.different)


def write_inputs(folder: Path, count: int) -> None:
    """Generated scenes in `folder/data`, and maps of them in `folder/maps`."""
    write_scenes(folder / "data", count, 72, seed=0)
    for pair in find_pairs(folder / "data"):
        write_png(
            folder / "maps" / f"{pair.name}.png", cv2.GaussianBlur(read_mask(pair.mask), (0, 0), 3).astype(np.uint8)
        )


def cases(folder: Path, weights: str = "lite") -> dict[str, Case]:
    """Every program on the inputs of `write_inputs`, small enough to end in seconds."""
    data, maps = str(folder / "data"), str(folder / "maps")
    network = ("--weights", weights, "--size", "64")
    tested = (*network, "--device", "cpu", "--images", f"{data}/images", "--cutout", "--overlay", "--resume")
    return {
        "test.py": Case("test.py", (*tested, "--engine", "torch", "--precision", "fp32")),
        "test.py, ONNX Runtime": Case("test.py", (*tested, "--engine", "onnxruntime")),
        "train.py": Case("train.py", (
            "--data.root", data, "--network.encoder", "test_efficientnet", "--network.channels", "16",
            "--encoder-weights", "none", "--data.size", "64", "--batch", "4", "--epochs", "2", "--save-every", "2",
            "--log-every", "1", *SMALL,
        )),
        "search.py": Case("search.py", (
            "--config", str(ROOT / "configs/search_smoke.yaml"), "--data.root", data, "--data.size", "48", "--batch",
            "2", "--epochs", "2", "--save-every", "2", "--space.operations", '["none", "skip_connect", "conv_3x3"]',
            *SMALL,
        )),
        "evaluate.py": Case("evaluate.py", (
            "--data", f"scenes={data}", "--maps", f"blurred={maps}", "--workers", "1", "--resamples", "200",
            "--images", "2",
        )),
        "export.py": Case("export.py", (*network, "--form", "network", "--images", f"{data}/images"), "out/net.onnx"),
    }  # fmt: skip


def kill(case: Case, folder: Path, times: int, rng: np.random.Generator) -> Found:
    """Runs a program whole, then kills it `times` times and completes it each time."""
    out, begin = folder / "out", time.perf_counter()
    if code := start(case, folder):
        raise UserError(f"{case.program}: ended with code {code} without a kill. See {folder / 'output.txt'}.")
    longest, whole = time.perf_counter() - begin, contents(out)
    found = Found(len(whole))
    while found.kills < times:
        for remains in (out, folder / CACHE):
            shutil.rmtree(remains, ignore_errors=True)
        if start(case, folder, float(rng.uniform(0, longest))) is not None:
            longest *= 0.9  # it ended before; the machine is faster now
            continue
        found.kills += 1
        left = contents(out)
        found.partial += len(left) > 0 and left != whole
        found.damaged += [name for name, content in left.items() if content is None and whole.get(name) is not None]
        found.failed += start(case, folder) != 0
        now = contents(out)
        found.different += [name for name in sorted(whole.keys() | now.keys()) if whole.get(name) != now.get(name)]
    return found


def start(case: Case, folder: Path, seconds: float | None = None) -> int | None:
    """Runs a program in `folder`; returns its exit code, or None if it was killed after so many seconds."""
    words = [case.program, *case.arguments, "--out", case.out]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=run_program, args=(words, folder))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def run_program(words: Sequence[str], folder: Path) -> None:
    """Runs a program of this project as `python PROGRAM` would, in a folder; its output goes to `output.txt` there."""
    os.chdir(folder)
    os.environ["AUTO_MSFNET_CACHE"] = str(folder / CACHE)
    sys.argv = [str(ROOT / words[0]), *words[1:]]
    with (
        Path("output.txt").open("a", encoding="utf-8") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        runpy.run_path(sys.argv[0], run_name="__main__")


def contents(folder: Path) -> dict[str, str | None]:
    """A digest of each file below a folder, by path; None for one that is not whole. Locks are left out."""
    found: dict[str, str | None] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "tensorboard" not in path.parts and not path.name.endswith(".lock"):
            found[path.relative_to(folder).as_posix()] = content_of(path)
    return found


def content_of(path: Path) -> str | None:
    """A digest of what must be the same in every run; None if the file is not whole."""
    content = path.read_bytes()
    try:
        match path.suffix:
            case ".json":
                content = json.dumps(timeless(json.loads(content))).encode()
            case ".jsonl":  # in the order of the threads; a killed run may leave half a line, which readers ignore
                content = json.dumps(sorted(json.dumps(timeless(line)) for line in parsed(content))).encode()
            case ".pt":
                content = digest_of(path)
            case ".png":
                Image.open(io.BytesIO(content)).load()
            case ".pdf" | ".svg" | ".html":
                if ENDS[path.suffix] not in content[-20:]:
                    return None
            case _:
                pass
    except Exception:  # the libraries raise many classes for a file that is not whole
        return None
    return hashlib.sha256(content).hexdigest()


def parsed(content: bytes) -> Iterator[Any]:
    """The whole lines of a file of JSON lines."""
    for line in content.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def timeless(value: Any) -> Any:
    """A value of JSON without those that depend on the moment."""
    if isinstance(value, Mapping):
        return {key: timeless(each) for key, each in sorted(value.items()) if key not in TIMED}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def digest_of(path: Path) -> bytes:
    """What a checkpoint holds, tensors to the last bit."""
    from torch import Tensor

    from utils.checkpoint import load_checkpoint

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return [
                str(value.dtype),
                list(value.shape),
                hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest(),
            ]
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    return json.dumps(timeless(plain(load_checkpoint(path))), default=repr).encode()


def report(found: Mapping[str, Found], options: argparse.Namespace) -> str:
    """The table, and what it counts."""
    heads = ["program", "files", "kills", "with some files by then", "files not whole", "second runs failed",
             "files that differ"]  # fmt: skip
    rows = [
        [name, *map(str, (one.files, one.kills, one.partial, len(one.damaged), one.failed, len(one.different)))]
        for name, one in found.items()
    ]
    lines = [
        "# Killed runs",
        "",
        f"`python benchmarks/kills.py --times {options.times} --seed {options.seed}` kills each program at random "
        f"moments of its run (SIGKILL), from an empty folder each time, and runs the same command again.",
        "",
    ]
    return "\n".join([*lines, markdown(Table(heads, rows))])


def main(words: Sequence[str] | None = None) -> int:
    """Kills, completes, compares, prints, writes; 1 where anything was not as it must be."""
    parser = arguments(__doc__, "benchmarks/kills.py")
    parser.add_argument("--times", type=Count, default=10, help="kills of each program")
    parser.add_argument("--seed", type=OptionalCount, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the table, such as test.py")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    found: dict[str, Found] = {}
    for name in options.only or cases(Path()):
        with tempfile.TemporaryDirectory() as place:
            write_inputs(Path(place), 24)
            rng = np.random.default_rng(options.seed)
            found[name] = kill(cases(Path(place))[name], Path(place), options.times, rng)
    text, figures = report(found, options), {name: asdict(one) for name, one in found.items()}
    folder = table_folder(options.update_docs)
    replace_text(folder / "kills.md", text)
    replace_text(folder / "kills.json", json.dumps(figures, indent=1) + "\n")
    print(text, json.dumps(figures), sep="\n")
    return 0 if all(one.good for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
