"""Tar shards at scale: 100,000 small images in 200 shards, two processes, one killed in the middle.

    python benchmarks/shards.py                              8 minutes on two cores
    python benchmarks/shards.py --count 2000 --shards 10 --loose 400
    python benchmarks/shards.py --update-docs                writes benchmarks/shards.md

1. The images of some shards are also written as loose files. `test.py` computes both in turn, in one process, and the
   maps in the shards must be the bytes of the loose ones. Speeds are what test.py prints: without its start.
2. `torchrun --nproc-per-node 2 test.py --resume` computes all shards. Where half of them are written, one of the two
   processes is killed (SIGKILL). The same command ends the work.
3. The shards must then hold every map once, in the order of the images.

The images are crops of generated scenes, 64 pixels wide. Exit code 1 where a map is missing, twice there or different.
The last line is JSON.
"""

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.process_memory import largest_peak, watched
from benchmarks.tables import UPDATE_HELP, table_folder
from data.synthetic import scene
from evaluation.tables.writer import Table, markdown
from settings.limits import Count, Limit
from settings.parser import arguments
from utils.device import banner
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text
from utils.hardware import usable_cores

ROOT = Path(__file__).resolve().parents[1]
_SCENES, _SIDE, _WIDTH, _HEIGHT = 40, 160, 64, 48
_SHARES = (1 / 4, 1 / 2, 1)
"""Shares of a run's half of the shards after which its memory is read."""


@dataclass(frozen=True)
class Moment:
    """Peak memory of the two processes in MB when so many shards were written; the larger of them."""

    run: str
    shards: int
    peak: float


@dataclass(frozen=True)
class Found:
    """What the measurements gave.

    Attributes:
        loose: images a second from loose files, a value a round.
        tar: the same from shards.
        moments: memory of the interrupted run and of the one that ended it.
        kept: shards that were whole when the process was killed, and stayed.
        seconds: of both runs together, with their starts.
        problems: what is wrong with the maps, a line each.
    """

    loose: list[float]
    tar: list[float]
    moments: list[Moment]
    kept: int
    seconds: float
    problems: list[str]


@dataclass
class Watch:
    """Reads the memory of a run while it writes shards, and kills one of its processes where that is asked for.

    Attributes:
        run: what the moments are called.
        out: where the shards appear.
        wanted: numbers of shards at which memory is read.
        kills: whether one process of torchrun is killed at the last of them.
        moments: read so far.
    """

    run: str
    out: Path
    wanted: Sequence[int]
    kills: bool = False
    moments: list[Moment] = field(default_factory=list)

    def __call__(self, processes: Sequence[int]) -> None:
        """Looks at the processes: torchrun, then those that it started."""
        peak = largest_peak(processes[1:])
        if len(self.moments) == len(self.wanted) or len(written(self.out)) < self.wanted[len(self.moments)] or not peak:
            return
        self.moments.append(Moment(self.run, self.wanted[len(self.moments)], peak))
        if self.kills and len(self.moments) == len(self.wanted):
            os.kill(processes[-1], signal.SIGKILL)


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the table."""
    options = parse(words)
    if not Path("/proc/self/status").is_file():
        raise UserError("shards.py reads /proc, which this system lacks. Run it on Linux.")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = measure(Path(name), options)
    text = report(found, options)
    print(text)
    replace_text(table_folder(options.update_docs) / "shards.md", text + "\n")
    print("\n".join(found.problems), file=sys.stderr, end="\n" if found.problems else "")
    ratio = round(median(found.tar) / median(found.loose), 3)
    record = {"shards_over_loose": ratio, "kept": found.kept, "problems": len(found.problems)}
    print(json.dumps(record | {"peaks": {f"{one.run} {one.shards}": one.peak for one in found.moments}}))
    return 1 if found.problems else 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: the counts do not fit each other.
    """
    parser = arguments(__doc__, "shards.py")
    add = parser.add_argument
    add("--count", type=Count, default=100_000, help="images")
    add("--shards", type=Annotated[int, Limit(8)], default=200, help="shards; a multiple of 8")
    add("--loose", type=Count, default=10_000, help="images that are computed as loose files as well")
    add("--rounds", type=Count, default=3, help="turns of shards and loose files")
    add("--weights", default="lite")
    add("--size", type=Count, default=64, help="side of the network's input")
    add("--engine", default="openvino", help="see test.py; in float32")
    add("--folder", type=Path, default=None, help="for images and maps; default: that of temporary files")
    add("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args(words)
    each = options.count // options.shards
    if options.count % options.shards or options.shards % 8 or options.loose % each or options.loose > options.count:
        raise UserError(
            f"--count {options.count}: {options.shards} shards of {each} images, {options.loose} loose ones. Give "
            f"counts so that all shards have as many images, their number is a multiple of 8, and --loose is of whole "
            f"shards."
        )
    return options


def measure(folder: Path, options: argparse.Namespace) -> Found:
    """All measurements, in a folder that is empty."""
    each = options.count // options.shards
    few = options.loose // each  # shards that are loose as well
    write_images(folder, options, few)
    pattern = f"{folder}/in/shards-{{{0:03d}..{options.shards - 1:03d}}}.tar"
    some = f"{folder}/in/shards-{{{0:03d}..{few - 1:03d}}}.tar"
    loose: list[float] = []
    tar: list[float] = []
    for _ in tqdm(range(options.rounds), desc="loose and shards", disable=None):
        loose.append(speed_of(program(options, str(folder / "loose"), folder / "out_loose")))
        tar.append(speed_of(program(options, some, folder / "out_some")))
    begin, out = time.perf_counter(), folder / "out"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        *program(options, pattern, out)[1:], "--resume",
    ]  # fmt: skip
    half = options.shards // 2
    first = Watch("first", out, [round(share * half) for share in _SHARES], kills=True)
    code, _ = watched(command, first)
    problems = [] if code else ["the run of which a process was killed ended with exit code 0"]
    kept = len(written(out))
    second = Watch("second", out, [half + round(share * half) for share in _SHARES])
    code, told = watched(command, second)
    seconds = time.perf_counter() - begin
    problems += [f"the second run ended with exit code {code}: {told[-200:]}"] if code else []
    problems += [*wrong(out, options.shards, each), *different(out, folder / "out_loose" / "maps", few)]
    return Found(loose, tar, [*first.moments, *second.moments], kept, seconds, problems)


def write_images(folder: Path, options: argparse.Namespace, few: int) -> None:
    """The shards, and the images of the first `few` as loose files beside them."""
    rng = np.random.default_rng(0)
    scenes = [scene(np.random.default_rng(seed), _SIDE).image for seed in range(_SCENES)]
    (folder / "in").mkdir()
    each = options.count // options.shards
    for shard in tqdm(range(options.shards), desc="shards", disable=None):
        with tarfile.open(folder / "in" / f"shards-{shard:03d}.tar", "w") as tar:
            for index in range(each):
                left, top = rng.integers(0, (_SIDE - _WIDTH, _SIDE - _HEIGHT))
                crop = scenes[int(rng.integers(_SCENES))][top : top + _HEIGHT, left : left + _WIDTH]
                content = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes()
                member = tarfile.TarInfo(f"{shard:03d}/{index:05d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                if shard < few:
                    path = folder / "loose" / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)


def program(options: argparse.Namespace, images: str, out: Path) -> list[str]:
    """A command of test.py."""
    return [
        sys.executable, str(ROOT / "test.py"), "--images", images, "--out", str(out), "--weights", options.weights,
        "--size", str(options.size), "--device", "cpu", "--engine", options.engine, "--precision", "fp32", "--no-sheet",
    ]  # fmt: skip


def speed_of(command: Sequence[str]) -> float:
    """Images a second that a run of test.py states.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    speed = re.search(r"([\d.]+) images/s", done.stdout)
    if done.returncode or speed is None:
        raise UserError(f"test.py: exit code {done.returncode}: {done.stderr[-200:]}")
    return float(speed[1])


def written(out: Path) -> list[Path]:
    """The shards of maps that are in their place."""
    return sorted((out / "maps").glob("shards-*.tar"))


def wrong(out: Path, shards: int, each: int) -> Iterator[str]:
    """What is wrong with the shards of maps: a line for each that has not every map once."""
    found = {path.stem: path for path in written(out)}
    for shard in range(shards):
        wanted = [f"{shard:03d}/{index:05d}.png" for index in range(each)]
        path = found.pop(f"shards-{shard:03d}", None)
        if path is None:
            yield f"shards-{shard:03d}.tar: is not there"
            continue
        with tarfile.open(path) as tar:
            names = tar.getnames()
        if names != wanted:
            yield f"{path.name}: {len(names)} maps, {len(set(names) & set(wanted))} of them of its {each} images"
    yield from (f"{path.name}: no such shard was read" for path in found.values())


def different(out: Path, loose: Path, few: int) -> Iterator[str]:
    """Shards whose maps are not the bytes of the loose maps."""
    for path in written(out)[:few]:
        with tarfile.open(path) as tar:
            contents = {member.name: tar.extractfile(member) for member in tar.getmembers()}
            pairs = [(name, file.read() if file else b"") for name, file in contents.items()]
        count = sum((loose / name).read_bytes() != content for name, content in pairs)
        if count:
            yield f"{path.name}: {count} maps differ from those of the loose files"


def report(found: Found, options: argparse.Namespace) -> str:
    """The tables, and under which conditions they were measured."""
    speeds = [
        [
            way, f"{median(values):.0f}", f"{min(values):.0f} to {max(values):.0f}",
            f"{median(values) / median(found.loose):.3f}",
        ]
        for way, values in (("loose files", found.loose), ("shards", found.tar))
    ]  # fmt: skip
    memory = [[one.run, f"{one.shards:,}", f"{one.peak:.0f}"] for one in found.moments]
    outcome = (
        f"{len(found.problems)} things were wrong then: {found.problems[0]}"
        if found.problems
        else f"Then every map was there once, in order; the first {options.loose:,} were the bytes of the loose ones"
    )
    return "\n".join([
        "# Tar shards",
        "",
        f"`python benchmarks/shards.py`; weights `{options.weights}`, engine {options.engine}, float32, the network's "
        f"input {options.size} pixels wide; {banner(torch.device('cpu'), 'fp32')} | {usable_cores()} cores.",
        "",
        f"{options.loose:,} JPEG files of {_WIDTH} x {_HEIGHT} pixels, in one process; medians of {options.rounds} "
        "turns:",
        "",
        markdown(Table(["input", "images/s", "slowest to fastest", "over loose"], speeds)),
        "",
        f"{options.count:,} images in {options.shards} shards by two processes of torchrun. One of them was killed "
        f"(SIGKILL) when half of the shards were written; {found.kept} shards stayed, and the same command with "
        f"`--resume` computed the rest: {found.seconds:.0f} s for all, with both starts. {outcome}.",
        "",
        "Peak memory of the larger of the two processes, libraries included:",
        "",
        markdown(Table(["run", "shards written", "peak, MB"], memory)),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
