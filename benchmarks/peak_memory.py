"""Peak memory of test.py: over the number of images of a run, and over the size of one image.

    python benchmarks/peak_memory.py                    3,000 small images, then one image of each size
    python benchmarks/peak_memory.py --count 500 --megapixels 25
    python benchmarks/peak_memory.py --update-docs      writes benchmarks/peak_memory.md

Every run is a process of its own, whose peak of resident memory Linux counts (VmHWM, the libraries included):
    number of images    64 x 48 JPEG files, read during the run; constant memory means that it ends level
    size of an image    a JPEG with overlay and cutout
    wrong header        a PNG of 69 bytes that claims 2 GiB of pixels, in a process that reads it and nothing else
Exit code 1 where a limit is exceeded. The last line is JSON.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.process_memory import megabytes, peak_mb, recorded
from benchmarks.tables import UPDATE_HELP, table_folder
from data.image_io import read_image, write_jpeg
from data.layouts import find_pairs
from data.synthetic import write_scenes
from evaluation.tables.writer import Table, markdown
from settings.limits import Count, Limit
from settings.parser import arguments
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_bytes, replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {25: 1200.0, 100: 3000.0}
"""Most MB (10^6 bytes) for an image of so many megapixels, with overlay and cutout."""
CLAIM_LIMIT, GROWTH_LIMIT = 300.0, 10.0
"""Most MB for the wrong header, and most MB by which the last 2 of 3 parts of many images may exceed the first."""
_SCENES, _SHARES = 20, (1 / 6, 1 / 3, 2 / 3, 1)
_POLL = 0.02  # seconds
_READ = (
    "import sys; from data.image_io import read_image\ntry: read_image(sys.argv[1])\nexcept Exception as e: print(e)"
)
_PEAK = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


@dataclass(frozen=True)
class Reading:
    """The peak of a run at one moment: MB so far, and how many images were written by then."""

    images: int
    peak: float


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the table."""
    options = parse(words)
    if not Path("/proc/self/status").is_file():
        raise UserError("peak_memory.py reads /proc, which this system lacks. Run it on Linux.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "scenes", _SCENES, 320, seed=0)
        scenes = [pair.image for pair in find_pairs(folder / "scenes")]
        found = run_of_many(scenes, folder, options)
        many, end = at_shares(found, options.count), found[-1].peak
        sizes = {size: run_of_large(scenes[0], size, folder, options) for size in options.megapixels}
        claim = run_of_claim(folder)
    text = report(many, end, sizes, claim, options)
    print(text)
    replace_text(table_folder(options.update_docs) / "peak_memory.md", text + "\n")
    exceeded = problems(many, sizes, claim)
    print("\n".join(exceeded), file=sys.stderr, end="\n" if exceeded else "")
    record = {"many": {str(one.images): one.peak for one in many}, "end": end, "megapixels": sizes, "claim": claim}
    print(json.dumps(record | {"threads": torch.get_num_threads(), "cores": usable_cores()}))
    return 1 if exceeded else 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "peak_memory.py")
    add = parser.add_argument
    add("--count", type=Annotated[int, Limit(6)], default=3000, help="small images of the first run")
    add("--megapixels", type=list[Count], default=[25, 100], help="sizes of the large images")
    add("--weights", default="lite")
    add("--size", type=Count, default=64, help="side of the network's input for the small images")
    add("--engine", default="torch", help="see test.py")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    return parser.parse_args(words)


def run_of_many(scenes: Sequence[Path], folder: Path, options: argparse.Namespace) -> list[Reading]:
    """Readings of one run of test.py over `options.count` small images."""
    for index in range(options.count):
        path = folder / "many" / f"{index:05d}.jpg"
        if index < len(scenes):
            small = cv2.resize(read_image(scenes[index]), (64, 48), interpolation=cv2.INTER_AREA)
            write_jpeg(path, small.astype(np.uint8, copy=False))
        else:
            os.link(folder / "many" / f"{index % len(scenes):05d}.jpg", path)
    return readings(["--images", str(folder / "many"), "--size", str(options.size)], folder / "out", options)


def run_of_large(scene: Path, megapixels: int, folder: Path, options: argparse.Namespace) -> float:
    """Peak of one run of test.py over one image of so many megapixels, 4 by 3, with overlay and cutout."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    large = cv2.resize(read_image(scene), (round(height * 4 / 3), height), interpolation=cv2.INTER_CUBIC)
    write_jpeg(folder / "large.jpg", large.astype(np.uint8, copy=False))
    del large
    words = ["--images", str(folder / "large.jpg"), "--overlay", "--cutout", "--max-megapixels", "200"]
    return readings(words, folder / f"out{megapixels}", options)[-1].peak


def run_of_claim(folder: Path) -> float:
    """Peak of a process that reads the PNG with the wrong header."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    whole = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path = folder / "claims.png"
    replace_bytes(path, b"\x89PNG\r\n\x1a\n" + whole + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + bytes(28))
    code = [sys.executable, "-c", _READ + _PEAK, str(path)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    told, peak = done.stdout.splitlines()
    if "damaged" not in told:
        raise UserError(f"{path}: was read as {told!r}, expected an error. The reader has changed.")
    return megabytes(int(peak))


def readings(words: Sequence[str], out: Path, options: argparse.Namespace) -> list[Reading]:
    """Starts test.py and reads its peak and its manifest until it ends.

    Raises:
        UserError: it failed.
    """
    fixed = ["--weights", options.weights, "--device", "cpu", "--engine", options.engine, "--out", str(out)]
    command = [sys.executable, str(ROOT / "test.py"), *words, *fixed, "--no-sheet"]
    found: list[Reading] = []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = peak_mb(process.pid)
            if peak is not None:
                found.append(Reading(recorded(out), peak))
            time.sleep(_POLL)
        errors.seek(0)
        if process.returncode:
            raise UserError(f"test.py {words[0]}: exit code {process.returncode}: {errors.read().decode()[-200:]}")
    return found


def at_shares(found: Sequence[Reading], count: int) -> list[Reading]:
    """The first readings at a sixth, a third, two thirds and all of the images."""
    wanted = [round(share * count) for share in _SHARES]
    firsts = [next((one for one in found if one.images >= number), found[-1]) for number in wanted]
    return [Reading(number, one.peak) for number, one in zip(wanted, firsts, strict=True)]


def problems(many: Sequence[Reading], sizes: dict[int, float], claim: float) -> list[str]:
    """What exceeds a limit, a line each."""
    found = [
        f"{size} megapixels: {peak:.0f} MB, limit {LIMITS[size]:.0f} MB"
        for size, peak in sizes.items()
        if peak > LIMITS.get(size, peak)
    ]
    if claim > CLAIM_LIMIT:
        found.append(f"wrong header: {claim:.0f} MB, limit {CLAIM_LIMIT:.0f} MB")
    if many[-1].peak - many[1].peak > GROWTH_LIMIT:
        found.append(f"{many[-1].images} images: {many[-1].peak - many[1].peak:.0f} MB over {many[1].images} images")
    return found


def report(
    many: Sequence[Reading], end: float, sizes: dict[int, float], claim: float, options: argparse.Namespace
) -> str:
    """The tables, and under which conditions they were measured."""
    growth = [0.0, *(after.peak - before.peak for before, after in pairwise(many))]
    rows = [[f"{one.images:,}", f"{one.peak:.0f}", f"{more:+.1f}"] for one, more in zip(many, growth, strict=True)]
    large = [[f"{size} megapixels, overlay and cutout", f"{peak:.0f}", _limit(size)] for size, peak in sizes.items()]
    large.append(["PNG of 69 bytes that claims 2 GiB", f"{claim:.0f}", f"{CLAIM_LIMIT:.0f}"])
    return "\n".join([
        "# Peak memory of test.py",
        "",
        f"`python benchmarks/peak_memory.py`; weights `{Path(options.weights).stem}`, engine {options.engine}; "
        f"{banner(torch.device('cpu'), 'auto')} | {usable_cores()} cores. MB are 10^6 bytes of resident memory, the "
        "libraries included.",
        "",
        f"Images of 64 x 48 pixels in one run, the network's input {options.size} pixels wide:",
        "",
        markdown(Table(["images written", "peak, MB", "since the row above, MB"], rows)),
        "",
        f"When the process has ended its peak is {end:.0f} MB; what grows while it closes was not traced.",
        "",
        "One file in a process of its own:",
        "",
        markdown(Table(["file", "peak, MB", "limit, MB"], large)),
    ])  # fmt: skip


def _limit(size: int) -> str:
    return f"{LIMITS[size]:.0f}" if size in LIMITS else "none"


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
