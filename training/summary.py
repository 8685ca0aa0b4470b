"""What a run says at its end: its best weights, what they reach, and what to do with them."""

from collections.abc import Mapping

from training.settings import TrainConfig
from training.state import Progress
from training.throughput import duration


def summary(config: TrainConfig, progress: Progress, seconds: float) -> list[str]:
    """Lines to print.

    Args:
        config: of the run.
        progress: at its end.
        seconds: that it took since it was last started.
    """
    best = config.out / "best.safetensors"
    if config.data.held_out:
        where = f"best of the held-out part, epoch {progress.best_epoch}: {listed(progress.best_scores)}: {best}"
    else:
        where = f"weights of the last epoch: {best} (no picture was held out to choose by)"
    return [
        f"{progress.epoch} epochs, {progress.step} steps; {duration(seconds)} since the last start",
        where,
        f"test it: python test.py --weights {best} --data NAME=DIR",
        f"draw its curves: python -m training.curves {config.out}",
    ]


def listed(scores: Mapping[str, float]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
