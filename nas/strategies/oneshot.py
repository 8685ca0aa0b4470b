"""Strategy `oneshot`: a supernet trained by single paths scores sub-networks; a linear model of the scores chooses.

Sources: single paths: arXiv 1904.00420 (which refines by evolution); fair sampling: arXiv 1907.01845. Scores use the
statistics of the batch, since running ones belong to no single path. The linear model is ours: scores of single
sub-networks are noisy, while each of the 600 informs about 31 edges. By edge it has 310 effects; by cell and kind of
edge it has a fifth of them, which predict random genotypes better and choose worse ones (docs/search.md).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nas.genotype_space import names_of
from nas.linear_model import fit
from nas.settings import SearchError
from nas.strategies.account import PASSES
from nas.strategies.count_model import OPERATIONS, features_of, worth
from nas.strategies.single_path import latin_path, single_path
from nas.strategies.task import Judged, Outcome, Recipe, Scored, Strategy, Task, p1_iou
from net.cpu_kernels import accelerate
from net.derive import check_genotype
from net.genotype import Genotype, load
from net.supernet import build_supernet
from training.random_state import seed_everything


class OneShotStrategy(Strategy):
    """Units are supernet steps, then scores: random sub-networks, genotypes that were asked for, generations."""

    def __init__(self, task: Task) -> None:
        config, settings = task.config, task.config.oneshot
        if config.space.partial != 1:
            raise SearchError(
                f"space.partial: {config.space.partial}, but a single path of partial channels trains kernels that no "
                f"derived network has. Set space.partial to 1, or strategy to darts."
            )
        self.task, self.settings, self.step = task, settings, 0
        seed_everything(config.seed)
        self.network = build_supernet(config.space, task.encoder_weights).to(task.device)
        if task.device.type == "cpu":
            accelerate(self.network)
        for alpha in self.network.alphas():
            alpha.requires_grad_(False)
        self.recipe = Recipe(settings.steps, settings.lr, settings.encoder_lr, settings.weight_decay)
        self.optimizer = self.recipe.optimizer(self.network)
        self.images = task.images(settings.images)
        self.scored: list[Scored] = []
        self._batches = None
        self._also = [(str(path), names_of(_checked(task, path))) for path in settings.also]
        evolved = settings.population * settings.generations
        self._scores = settings.scored + len(self._also) + evolved + bool(evolved)
        self.total = settings.steps + self._scores

    @property
    def done(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps and scores that are finished."""
        return self.step + len(self.scored)

    def advance(self) -> Mapping[str, float | Tensor]:
        """Takes a step of the supernet, or scores a sub-network."""
        return self._train() if self.step < self.settings.steps else self._score(*self._next())

    def outcome(self) -> Outcome:
        """The genotype of the greatest sum of effects; with generations the best of it and of them, by score."""
        worth = self._worth()
        names, reason = self.task.choices.best(worth), "greatest sum of linear effects of the supernet's scores"
        if self.settings.generations:
            best = max(self.scored[self._first_refined :], key=lambda one: one.score)
            names, reason = best.names, f"best score of the refined genotypes ({best.origin})"
        start = self.settings.scored
        asked = self.scored[start : start + len(self._also)]
        also = {
            path: Judged(one.score, predicted)
            for (path, _), one, predicted in zip(self._also, asked, self._predicted(asked, worth), strict=True)
        }
        return Outcome(names, reason, self.scored, "P1 IoU in the supernet", worth, also)

    def state_dict(self) -> dict[str, Any]:
        """Supernet, optimizer, position and scores."""
        return {
            "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
            "scored": [[list(one.names), one.score, one.origin] for one in self.scored],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts them back."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self._batches = state["step"], None
        self.scored = [Scored(tuple(names), score, origin) for names, score, origin in state["scored"]]

    def _train(self) -> dict[str, Tensor]:
        task = self.task
        if self._batches is None:
            self._batches = task.halves.weights_from(self.step)
        names = latin_path(task.choices.names, task.config.seed, self.step)
        batch = task.to_device(next(self._batches))
        self.network.train()
        with single_path(self.network, names):
            loss = self.recipe.step(self.optimizer, self.network, task.loss(self.network, batch), self.step)
        self.step += 1
        task.account.supernet_steps += 1
        task.account.see(len(batch.index), task.macs(names), PASSES)
        return {"loss/weights": loss}

    def _score(self, names: Sequence[str], origin: str) -> dict[str, float]:
        task = self.task
        self.network.train()  # the decoder has the statistics of the batch in any mode
        with single_path(self.network, names):
            score = p1_iou(task, self.network, self.images)
        self.scored.append(Scored(tuple(names), score, origin))
        task.account.scored += 1
        task.account.see(len(self.images.index), task.macs(names))
        return {"search/score": score, "search/gmac": task.macs(names) / 1e9}

    # ------------------------------------------------------------------------------------- what is scored next

    @property
    def _first_refined(self) -> int:
        """Place of the linear model's choice among the scored, followed by the generations."""
        return self.settings.scored + len(self._also)

    def _next(self) -> tuple[tuple[str, ...], str]:
        """Operations to score next, and where they come from: a function of what was scored before."""
        place = len(self.scored)
        if place < self.settings.scored:
            return self.task.draw(1, place), "random"
        if place < self._first_refined:
            return self._also[place - self.settings.scored][1], "asked for"
        if place == self._first_refined:
            return self.task.choices.best(self._worth()), "linear effects"
        generation, number = divmod(place - self._first_refined - 1, self.settings.population)
        end = self._first_refined + 1 + generation * self.settings.population
        known = [*self.scored[: self.settings.scored], *self.scored[self._first_refined : end]]
        best = sorted(known, key=lambda one: -one.score)[: max(2, self.settings.population // 2)]
        rng = self.task.rng(2, generation, number)
        first, second = (best[int(rng.integers(len(best)))].names for _ in range(2))
        return self.task.choices.child(first, second, rng), f"generation {generation + 1}"

    def _predicted(self, asked: Sequence[Scored], worth: Sequence[Mapping[str, float]]) -> list[float]:
        """What the linear model expects of genotypes: the mean score, and how far their worth is from the mean's."""
        totals = {
            one.names: sum(row[name] for row, name in zip(worth, one.names, strict=True))
            for one in (*self.scored, *asked)
        }
        drawn = self.scored[: self.settings.scored]
        level = float(np.mean([one.score - totals[one.names] for one in drawn]))
        return [level + totals[one.names] for one in asked]

    def _worth(self) -> list[dict[str, float]]:
        """Effect of each candidate on each edge, from the random sub-networks, with shrinkage."""
        choices, drawn = self.task.choices, self.scored[: self.settings.scored]
        names, scores = [one.names for one in drawn], np.array([one.score for one in drawn])
        if self.settings.effects == "sites":
            return worth(choices, fit(features_of(choices, names, OPERATIONS), scores), OPERATIONS)
        features = np.array([
            [float(name == chosen) for candidates, chosen in zip(choices.names, one, strict=True)
             for name in candidates] for one in names
        ])  # fmt: skip
        effects = iter(fit(features, scores).effects()[0].tolist())
        return [{name: next(effects) for name in candidates} for candidates in choices.names]


def _checked(task: Task, path: Path) -> Genotype:
    """The genotype of a file, if it is of this space."""
    genotype = load(path)
    check_genotype(genotype, task.config.space, str(path))
    return genotype
