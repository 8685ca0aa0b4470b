"""The report of reproduce.py: Table 1 beside ours, curves, cells, sheets, and what it took."""

import os
import subprocess
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch

from evaluation.report.figures import rendered
from inference.weights import load_network
from nas.cell_drawings import draw_cells
from nas.step_time import measured, training_step
from training.curves import PANELS, draw, read_curves
from training.run_log import read_log
from training.settings import TrainConfig
from utils.device import banner, choose_device
from utils.files import replace_bytes, replace_text
from utils.hardware import DeviceName

ROOT = Path(__file__).resolve().parents[1]


def write_report(
    out: Path, networks: Mapping[str, Path], maps: Mapping[str, Path], scores: Path,
    benchmarks: Mapping[str, Path], device: DeviceName,
) -> Path:  # fmt: skip
    """Writes report.md and the figures that it shows.

    Args:
        out: folder of the report.
        networks: name -> folder of its training.
        maps: name -> folder that test.py wrote.
        scores: folder that evaluate.py wrote.
        benchmarks: name -> folder, in the order of the report.
        device: that everything was computed on.

    Returns:
        The path of the report.
    """

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, out)).as_posix()

    lines = ["# Auto-MSFNet: reproduction", "", f"Code: {commit()}.", "", "## Table 1 beside ours", ""]
    lines += [(scores / "tables.md").read_text("utf-8").strip(), ""]
    lines += [f"[All scores, tests and a viewer of images]({link(scores / 'index.html')})", ""]
    for name, folder in networks.items():
        curves, cells = out / f"curves_{name}.png", out / f"cells_{name}.png"
        logged = read_curves(folder)
        for key in PANELS["speed"][1]:  # of the moment: the same training must give the same report
            logged.pop(key, None)
        replace_bytes(curves, rendered(draw({name: logged}), "png"))
        genotype = load_network(folder / "best.safetensors").network.genotype
        replace_bytes(cells, rendered(draw_cells(genotype, f"{name}, as Figure 7"), "png"))
        lines += [f"## {name}", "", f"![Curves of the training]({link(curves)})", "", f"![Cells]({link(cells)})", ""]
        lines += [f"![{one}: images and maps]({link(maps[name] / f'sheet_{one}.png')})" for one in benchmarks]
        lines.append("")
    lines += ["## Curves of the benchmarks", ""]
    lines += [f"![{one}: precision-recall, F and E]({link(scores / 'curves' / f'{one}.svg')})" for one in benchmarks]
    lines += ["", "## Hardware and hours", "", banner(choose_device(device), "see each run"), ""]
    lines += [f"- {name}: {hours(folder):.2f} h of training" for name, folder in networks.items()]
    replace_text(out / "report.md", "\n".join(lines) + "\n")
    return out / "report.md"


def hours(run: Path) -> float:
    """Hours between the entries of a run's log; a pause of over an hour between two entries does not count."""
    times = [record["time"] for record in read_log(run)]
    gaps = [after - before for before, after in pairwise(times)]
    return sum(gap for gap in gaps if 0 <= gap < 3600) / 3600


def commit() -> str:
    """The commit of this checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown commit"
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "unknown commit"


def training_hours(config: TrainConfig, images: int, device: torch.device, precision: str) -> float:
    """Estimated hours of a training: five measured steps, times all of its steps, without reading images."""
    time = measured(training_step(config, device, precision), config.batch, device)
    batches = round(images * (1 - config.data.held_out)) // config.batch
    return config.epochs * batches * time.seconds / 3600
