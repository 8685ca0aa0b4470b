"""The last lines of a run: its best weights, their scores, and what to do with them."""

from collections.abc import Mapping

from training.progress import TrainProgress
from training.settings import TrainConfig
from training.throughput import duration


def summary(config: TrainConfig, progress: TrainProgress, seconds: float) -> list[str]:
    """Lines to print.

    Args:
        config: of the run.
        progress: at its end.
        seconds: since it was last started.
    """
    best = config.out / "best.safetensors"
    if config.data.held_out:
        where = f"best on the validation split, epoch {progress.best_epoch}: {listed(progress.best_scores)}: {best}"
    else:
        where = f"weights of the last epoch: {best} (there is no validation split to choose by)"
    return [
        f"{progress.epoch} epochs, {progress.step} steps; {duration(seconds)} since the last start",
        where,
        f"test it: python test.py --weights {best} --data NAME=DIR",
        f"draw its curves: python -m training.curves {config.out}",
    ]


def listed(scores: Mapping[str, float]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
