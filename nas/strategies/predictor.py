"""Strategy `predictor`: a linear model of what was trained proposes what to train next.

The model is that of `nas.strategies.count_model`. Proposals are Thompson's: each maximises one draw of the model from
its posterior (Thompson, Biometrika 25, 1933), so that uncertain genotypes have their chance.
"""

import numpy as np

from nas.linear_model import LinearModel, fit
from nas.strategies.count_model import features_of
from nas.strategies.short_training import train_and_score
from nas.strategies.task import Outcome, Scored, ScoringStrategy, Task


class PredictorStrategy(ScoringStrategy):
    """Trains random genotypes, then rounds of proposals, and takes the one of the greatest posterior mean."""

    def __init__(self, task: Task) -> None:
        settings = task.config.predictor
        super().__init__(task, settings.initial + settings.rounds * settings.proposals)
        self.settings = settings
        self.images = task.images(task.config.training.images)
        self._proposed: dict[int, list[tuple[str, ...]]] = {}  # by round; a function of what was scored before it

    def advance(self) -> dict[str, float]:
        """Trains the next genotype."""
        if self.done < self.settings.initial:
            names, origin = self.task.draw(0, self.done), "random"
        else:
            turn, place = divmod(self.done - self.settings.initial, self.settings.proposals)
            names, origin = self._proposals(turn)[place], f"proposal of round {turn + 1}"
        return self.add(names, train_and_score(self.task, names, self.images), origin)

    def outcome(self) -> Outcome:
        """The trained genotype that the model, which smooths the noise of a training, finds best."""
        means, _ = self._model(self.scored).predict(features_of(self.task.choices, [one.names for one in self.scored]))
        best = self.scored[int(np.argmax(means))]
        reason = f"greatest posterior mean, {means.max():.4f}, of {self.total} trained genotypes"
        return Outcome(best.names, reason, self.scored, "P1 IoU")

    def _proposals(self, turn: int) -> list[tuple[str, ...]]:
        """The genotypes of a round, from what was scored before it."""
        if turn not in self._proposed:
            before = self.scored[: self.settings.initial + turn * self.settings.proposals]
            pool = self._pool(turn, before)
            model, features = self._model(before), features_of(self.task.choices, pool)
            chosen: list[int] = []
            for number in range(self.settings.proposals):
                values = model.sample(self.task.rng(2, turn, number), features)
                values[chosen] = -np.inf
                chosen.append(int(np.argmax(values)))
            self._proposed[turn] = [pool[place] for place in chosen]
        return self._proposed[turn]

    def _pool(self, turn: int, before: list[Scored]) -> list[tuple[str, ...]]:
        """Random genotypes and children of the best so far, none of them trained yet."""
        rng = self.task.rng(1, turn)
        parents = [one.names for one in sorted(before, key=lambda one: -one.score)[: max(2, len(before) // 4)]]
        pool = [self.task.choices.draw(rng) for _ in range(self.settings.pool)]
        for _ in range(self.settings.pool):
            first, second = (parents[int(rng.integers(len(parents)))] for _ in range(2))
            pool.append(self.task.choices.child(first, second, rng))
        known = {one.names for one in before}
        fresh = [names for names in dict.fromkeys(pool) if names not in known]
        return fresh if len(fresh) >= self.settings.proposals else list(dict.fromkeys(pool)) * self.settings.proposals

    def _model(self, scored: list[Scored]) -> LinearModel:
        return fit(
            features_of(self.task.choices, [one.names for one in scored]), np.array([one.score for one in scored])
        )
