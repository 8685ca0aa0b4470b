"""How long `test.py` takes to answer `--help`, to write its first map and to cut out one large photo.

    python benchmarks/startup.py [--rounds N]       writes runs/benchmarks/startup.md
    python benchmarks/startup.py --update-docs      writes benchmarks/startup.md

Four new processes take turns in every round, after one round that fills the caches and does not count:
    import torch     python -c "import torch"
    --help           python test.py --help
    first map        python test.py on the sample images, until the first map lies in its folder; it is then ended
    large cutout     python test.py --cutout on one JPEG of 12 megapixels, an enlarged sample image
User and system seconds are those of all threads until the process ends. Wall-clock seconds mean something on a quiet
machine only.
The last line is JSON.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch

from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import read_image, write_jpeg
from evaluation.tables.writer import Table, markdown
from settings.parser import arguments
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
_POLL = 0.005  # seconds between two looks for the first map


class Seconds(NamedTuple):
    """What one start took."""

    wall: float
    user: float
    system: float

    @property
    def cpu(self) -> float:
        """Of all threads, in the program and in the kernel."""
        return self.user + self.system


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the table."""
    parser = arguments(__doc__, "startup.py")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    if options.rounds < 1:
        raise UserError(f"--rounds {options.rounds}: at least 1.")
    with tempfile.TemporaryDirectory() as name:
        photo = Path(name) / "photo.jpg"
        write_photo(photo)
        ways = {
            "import torch": import_torch, "--help": show_help, "first map": first_map,
            "large cutout": lambda: large_cutout(photo),
        }  # fmt: skip
        medians = measure(ways, options.rounds)
    record = figures(medians)
    text = report(medians, record, options.rounds)
    replace_text(table_folder(options.update_docs) / "startup.md", text + "\n")
    print(text)
    print(json.dumps(record))
    return 0


def measure(ways: Mapping[str, Callable[[], Seconds]], rounds: int) -> dict[str, Seconds]:
    """Medians of every way; the ways take turns, and a round before them does not count."""
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, start in ways.items():
            seconds = start()
            if turn:
                taken[name].append(seconds)
    return {name: Seconds(*map(statistics.median, zip(*each, strict=True))) for name, each in taken.items()}


def import_torch() -> Seconds:
    """A process that only imports PyTorch."""
    return _timed(["-c", "import torch"], lambda process: process.wait())


def show_help() -> Seconds:
    """A process that prints the help of test.py."""
    return _timed(["test.py", "--help"], lambda process: process.wait())


def first_map() -> Seconds:
    """A process that computes the maps of the sample images, until its first map is there."""
    with tempfile.TemporaryDirectory() as folder:
        return _timed(["test.py", "--out", folder], lambda process: _wait_for_map(process, Path(folder) / "maps"))


def write_photo(path: Path) -> None:
    """A JPEG of 12 megapixels, 4000 x 3000."""
    small = read_image(ROOT / "data/samples/astronaut.jpg")
    write_jpeg(path, cv2.resize(small, (4000, 3000), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False))


def large_cutout(photo: Path) -> Seconds:
    """A process that cuts out one photo.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["test.py", "--images", str(photo), "--cutout", "--out", folder]
        seconds = _timed(command, lambda process: process.wait())
        if not (Path(folder) / "cutout/photo.png").is_file():
            raise UserError("test.py wrote no cutout. Run it by itself to see its error.")
        return seconds


def _wait_for_map(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    # Outputs are renamed into place, so a file that is there is whole.
    while not next(folder.rglob("*.png"), None):
        if process.poll() is not None:
            raise UserError("test.py ended before its first map. Run it by itself to see its error.")
        time.sleep(_POLL)


def _timed(command: Sequence[str], wait: Callable[["subprocess.Popen[bytes]"], object]) -> Seconds:
    """Seconds until `wait` returns, and the CPU seconds of the process, which is then ended."""
    before, begin = os.times(), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait(process)
            wall = time.perf_counter() - begin
        finally:
            process.kill()
    after = os.times()
    return Seconds(wall, after.children_user - before.children_user, after.children_system - before.children_system)


def figures(medians: Mapping[str, Seconds]) -> dict[str, Any]:
    """The figures of the table, in wall-clock and in CPU seconds."""
    imported, answer, first, cutout = (
        medians[name] for name in ("import torch", "--help", "first map", "large cutout")
    )
    return {
        "cores": usable_cores(),
        "seconds": {name: round(each.wall, 3) for name, each in medians.items()},
        "cpu_seconds": {name: round(each.cpu, 3) for name, each in medians.items()},
        "help_over_torch": round(answer.wall / imported.wall, 3),
        "first_map_after_torch": round(first.wall - imported.wall, 3),
        "cpu_first_map_after_torch": round(first.cpu - imported.cpu, 3),
        "large_cutout_over_torch": round(cutout.wall / imported.wall, 3),
        "large_cutout_system_over_user": round(cutout.system / cutout.user, 3),
    }


def report(medians: Mapping[str, Seconds], record: Mapping[str, Any], rounds: int) -> str:
    """The table, and under which conditions it was measured."""
    imported = medians["import torch"].wall
    rows = [
        [f"`{name}`", *(f"{one:.2f}" for one in (*each, each.wall / imported)), f"{each.wall - imported:+.2f}"]
        for name, each in medians.items()
    ]
    heads = ["start", "seconds", "user seconds", "system seconds", "times the import", "seconds more"]
    return "\n".join([
        "# Start of test.py against the import of PyTorch", "",
        f"`python benchmarks/startup.py`: new processes, medians of {rounds} alternated rounds on {record['cores']} "
        f"cores, with warm caches; {banner(torch.device('cpu'), 'auto')}. `first map`: the shipped network on the "
        "sample images. `large cutout`: map and cutout of one JPEG of 12 megapixels.", "",
        markdown(Table(heads, rows)),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
