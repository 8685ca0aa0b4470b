"""Megabytes and seconds of cutout.py in a fresh environment, and what every requirements file needs on the disk.

    python benchmarks/cutout.py                  installs requirements-cutout.txt in a temporary environment
    python benchmarks/cutout.py --update-docs    writes benchmarks/cutout.md instead of runs/benchmarks/cutout.md

The first start of a fresh environment also compiles Python's modules and reads everything from the disk. The image has
1 megapixel. The other requirements files are measured in the environment that runs this program, with all that they
depend on; the last line printed is JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packaging.requirements import Requirement
from PIL import Image

from benchmarks.tables import UPDATE_HELP, table_folder
from evaluation.tables.writer import Table, markdown
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text

ROOT = Path(__file__).resolve().parents[1]
CUTOUT = ROOT / "requirements-cutout.txt"
FILES = ("requirements.txt", "requirements-deploy.txt", "requirements-dev.txt")
CUDA = re.compile(r"nvidia-|cuda-|triton$")
STARTS = 7


def main() -> int:
    """Installs, measures, writes."""
    parser = argparse.ArgumentParser("cutout.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cutout.") as scratch:
        installed, python = install(Path(scratch) / "venv")
        seconds = starts(python, Path(scratch))
    sizes = [(CUTOUT.name, installed, "yes"), *measured()]
    rows = [[name, f"{size / 1e6:.0f}", fresh] for name, size, fresh in sizes]
    later = sorted(seconds[1:])
    start_rows = [["first", f"{seconds[0]:.2f}"], ["second", f"{seconds[1]:.2f}"],
                  [f"median of {len(later)} later ones", f"{later[len(later) // 2]:.2f}"]]  # fmt: skip
    text = "\n\n".join([
        "# Size and start of cutout.py", "Written by `python benchmarks/cutout.py --update-docs`.",
        "## Megabytes on the disk", markdown(Table(["file", "MB", "fresh environment"], rows, left=1)), NOTE,
        "## Seconds from start to cutout, 1-megapixel JPEG to PNG",
        markdown(Table(["start", "seconds"], start_rows)), cpu(),
    ])  # fmt: skip
    path = table_folder(options.update_docs) / "cutout.md"
    replace_text(path, text + "\n")
    print(text)
    print(json.dumps({"bytes": {name: size for name, size, _ in sizes}, "seconds": seconds, "table": str(path)}))
    return 0


NOTE = """Sizes include the bytecode that pip compiles. `without CUDA` leaves out NVIDIA's libraries and Triton, which
PyTorch's build for CPUs (`make demo TORCH=cpu`) does not need. That build's own library, not measured here, is smaller
than the one that is counted."""


def install(folder: Path) -> tuple[int, Path]:
    """A fresh environment with requirements-cutout.txt: the bytes that it added, and its Python.

    Raises:
        UserError: pip failed.
    """
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    before = folder_bytes(folder)
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", CUTOUT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"pip could not install {CUTOUT.name}: {done.stderr.strip().splitlines()[-1]}")
    return folder_bytes(folder) - before, python


def starts(python: Path, scratch: Path) -> list[float]:
    """Seconds of each of `STARTS` runs of cutout.py, in a process of its own each."""
    image, out = scratch / "image.jpg", scratch / "out.png"
    sample = Image.open(ROOT / "data" / "samples" / "cat.jpg")
    sample.resize((1224, 816), Image.Resampling.LANCZOS).save(image, quality=92)
    seconds = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run([python, ROOT / "cutout.py", image, out], check=True)
        seconds.append(round(time.perf_counter() - begin, 3))
    assert Image.open(out).size == (1224, 816)
    return seconds


def measured() -> Iterator[tuple[str, int, str]]:
    """Bytes of each other requirements file in this environment; PyTorch with and without CUDA."""
    for name in FILES:
        packages = closure(list(requirements(ROOT / name)))
        yield name, sum(map(package_bytes, packages)), "no"
        if name == FILES[0]:
            yield f"{name} without CUDA", sum(package_bytes(one) for one in packages if not CUDA.match(one)), "no"


def requirements(path: Path) -> Iterator[Requirement]:
    """The requirements of a file and of those that it includes."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from requirements(path.parent / line.removeprefix("-r ").strip())
        elif line.strip() and not line.startswith("#"):
            yield Requirement(line)


def closure(wanted: list[Requirement]) -> set[str]:
    """The installed packages that requirements need, by name.

    Raises:
        UserError: one is not installed.
    """
    found: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        for extra in ("", *sorted(one.extras)):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                needs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                raise UserError(f"{name} is not installed here. Install requirements-dev.txt first.") from None
            wanted += [
                each
                for each in map(Requirement, needs)
                if each.marker is None or each.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in found}


def package_bytes(name: str) -> int:
    """Bytes of the files of an installed package."""
    places = (Path(str(file.locate())) for file in metadata.files(name) or [])
    return sum(place.stat().st_size for place in places if place.is_file())


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def cpu() -> str:
    """The machine, in a line."""
    import os
    import platform

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    found = re.search(r"model name\s*: (.*)", text)
    name = found[1] if found else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return f"Measured on {name}, {os.cpu_count()} cores, Python {platform.python_version()}{load}."


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
