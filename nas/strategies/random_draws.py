"""Strategy `random`: the best of n random genotypes, each trained briefly.

Source: Li and Talwalkar, "Random search and reproducibility for NAS", arXiv 1902.07638.
"""

from nas.strategies.short_training import train_and_score
from nas.strategies.task import Outcome, ScoringStrategy, Task


class RandomStrategy(ScoringStrategy):
    """Draws and trains `random.count` genotypes and takes the best; with a count of 1 it trains none."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, task.config.random.count)
        self.images = task.images(task.config.training.images) if self.total > 1 else None

    def advance(self) -> dict[str, float]:
        """Trains the next genotype."""
        names = self.task.draw(self.done)
        score = float("nan") if self.images is None else train_and_score(self.task, names, self.images)
        return self.add(names, score, "random")

    def outcome(self) -> Outcome:
        """The best, the first among equals."""
        if self.images is None:
            return Outcome(self.scored[0].names, "drawn at random", [], "none")
        best = max(self.scored, key=lambda one: one.score)
        return Outcome(best.names, f"best of {self.total} random genotypes", self.scored, "P1 IoU")
