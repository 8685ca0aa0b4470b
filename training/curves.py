"""Curves of a run, or of several, from their logs to one PNG.

python -m training.curves runs/lite                     writes runs/lite/curves.png
python -m training.curves runs/a runs/b --out both.png  several runs in the same panels
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.report.figures import rendered, style, styled
from training.run_log import read_log
from utils.errors import exit_on_user_error
from utils.files import replace_bytes

Curves = dict[str, NDArray[np.float64]]
"""Name of a logged number -> (N, 2): steps and values."""

PANELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "loss": (
        "loss, its terms weighted",
        ("loss/total", "loss/bce", "loss/iou", "loss/polish", "loss/distillation"),
    ),
    "scores": ("validation split: F", ("validation/wfm", "validation/maxf")),
    "error": ("validation split: MAE", ("validation/mae",)),
    "rates": ("learning rate", ("rate/rest", "rate/encoder")),
    "norms": ("norm of gradient and update", ("train/gradient_norm", "train/update_norm")),
    "speed": ("images/s", ("train/images_per_s",)),
}
"""Title of each panel and the numbers that it draws."""
LOGARITHMIC = frozenset({"norms"})
SMOOTHED = 50  # points that a line is averaged over at most; the raw ones stay visible behind it


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the runs that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders that train.py wrote (--out)")
    parser.add_argument("--out", type=Path, help="the PNG; default: curves.png in the first folder")
    options = parser.parse_args(arguments)
    out = options.out or options.runs[0] / "curves.png"
    figure = draw({run.name: read_curves(run) for run in options.runs})
    replace_bytes(out, rendered(figure, "png"))
    print(out)
    return 0


def read_curves(run: Path) -> Curves:
    """All numbers of a run's log, each by its steps, NaN where one was not finite; of two entries the later counts.

    Raises:
        LogError: there is no log.
    """
    points: dict[str, dict[int, float]] = {}
    for record in read_log(run):
        for name in record.keys() - {"step", "time"}:
            value = math.nan if record[name] is None else float(record[name])
            points.setdefault(name, {})[record["step"]] = value
    return {name: np.array(sorted(values.items())) for name, values in points.items()}


def draw(runs: Mapping[str, Curves]) -> Figure:
    """One panel a group of numbers; those that no run has logged are left out."""
    logged = {name for curves in runs.values() for name in curves}
    panels = {key: panel for key, panel in PANELS.items() if logged.intersection(panel[1])}
    rows = max(1, -(-len(panels) // 3))
    with styled():
        figure = Figure(figsize=(12, 3.4 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, 3)).ravel()
        for panel, (key, (title, names)) in zip(axes, panels.items(), strict=False):
            fill(panel, runs, names)
            panel.set_title(title)
            if key in LOGARITHMIC:
                panel.set_yscale("log")
        for panel in axes[len(panels) :]:
            panel.set_axis_off()
    return figure


def fill(panel: Axes, runs: Mapping[str, Curves], names: Sequence[str]) -> None:
    """Draws some numbers of all runs into a panel."""
    present = [(run, name, curves[name]) for run, curves in runs.items() for name in names if name in curves]
    for number, (run, name, points) in enumerate(present):
        steps, values = points.T
        label = name.partition("/")[2] if len(runs) == 1 else f"{run}: {name.partition('/')[2]}"
        line = style(number)
        panel.plot(steps, smooth(values), linewidth=1.4, label=label, marker="." * (len(steps) < 30), **line)
        panel.plot(steps, values, linewidth=0.5, alpha=0.25, color=line["color"])
    panel.set_xlabel("step")
    panel.grid()
    panel.legend(fontsize=7)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the finite points before each, itself included: a twentieth of the curve, `SMOOTHED` at most.

    Shapes:
        values: (N,); returns the same, NaN where no point of the window is finite.
    """
    width = min(SMOOTHED, max(1, len(values) // 20))
    finite = np.isfinite(values)
    sums = np.cumsum(np.concatenate([[0.0], np.where(finite, values, 0.0)]))  # (N + 1,)
    counts = np.cumsum(np.concatenate([[0], finite]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    number = counts[ends] - counts[begins]
    return np.where(number > 0, (sums[ends] - sums[begins]) / np.maximum(number, 1), np.nan)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
