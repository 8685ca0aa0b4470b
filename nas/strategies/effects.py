"""Strategy `effects`: the best sum of the effects that earlier trainings show; it trains nothing itself.

The model (`nas.strategies.count_model`) is fitted to scores of whole trainings: random genotypes of a comparison, on
images that nothing was trained on. A second round may learn from what the first found as well. The model is linear, so
the best genotype of the whole space under a limit or target is found exactly; among equal ones, such as two operations
of a family, the seed decides. Each search learns from four fifths of the trainings, drawn by its seed (the delete-d
jackknife of Shao and Wu, Annals of Statistics 17, 1989), so that seeds show how far the choice depends on the genotypes
that were trained.
"""

import numpy as np

from nas.evidence import genotypes_of, read_trainings
from nas.linear_model import LinearModel, fit
from nas.matched import common_seeds
from nas.settings import EffectsConfig, SearchError
from nas.strategies.count_model import features_of, worth
from nas.strategies.task import Outcome, ScoringStrategy, Task
from net.derive import check_genotype
from net.genotype import operations_of

LEAST = 10
"""Genotypes that a table must hold."""
DRAWN = 0.8
"""Share of the trainings that a search learns from."""
TIE = 1e-7
"""Standard deviation of what is added to each worth to break ties: a hundredth of the digits that tables show."""


class EffectsStrategy(ScoringStrategy):
    """Fits the model to trainings, and takes the genotype with the greatest prediction."""

    computes = False

    def __init__(self, task: Task) -> None:
        super().__init__(task, 1)
        self.genotypes, self.observed = trained_genotypes(task, task.config.effects)
        count = len(self.observed)
        self.drawn = np.sort(task.rng(0).permutation(count)[: round(DRAWN * count)])
        task.account.trainings = len(self.drawn)

    def advance(self) -> dict[str, float]:
        """Chooses the genotype."""
        model, choices, rng = self._model(), self.task.choices, self.task.rng(1)
        names = choices.best([
            {name: value + rng.normal(0, TIE) for name, value in row.items()} for row in worth(choices, model)
        ])  # fmt: skip
        return self.add(names, float(model.predict(features_of(choices, [names]))[0][0]), "best sum of effects")

    def outcome(self) -> Outcome:
        """What was chosen, with the worth of every candidate."""
        model, (chosen,) = self._model(), self.scored
        reason = (
            f"predicted weighted F {chosen.score:.4f}, the greatest of the space, from "
            f"{self.task.account.trainings} of {len(self.observed)} trained genotypes "
            f"(mean {self.observed.mean():.4f})"
        )
        return Outcome(chosen.names, reason, self.scored, "predicted weighted F", worth(self.task.choices, model))

    def _model(self) -> LinearModel:
        drawn = features_of(self.task.choices, [self.genotypes[place] for place in self.drawn])
        return fit(drawn, self.observed[self.drawn])


def trained_genotypes(task: Task, settings: EffectsConfig) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Operations of the genotypes of a table in the order of `GenotypeSpace.edges`, and their mean scores.

    A training seed shifts all scores, so only those count that all genotypes were trained with.

    Raises:
        SearchError: without a table, if it has fewer than `LEAST` genotypes of the groups, or if they share no training
            seed.
        ResultsError, GenotypeError, SpaceError: if the table or a genotype can't be read, or is of another space.
    """
    path = settings.trainings
    if path is None:
        raise SearchError("effects.trainings: strategy effects needs the trainings.csv of a comparison. Give one.")
    if path.name != "trainings.csv" or not path.is_file():
        raise SearchError(f"effects.trainings: {path} is no file trainings.csv. Give that of a comparison.")
    genotypes = genotypes_of(path.parent)
    found: dict[str, dict[int, float]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for row in read_trainings(path.parent):
        if row.group not in settings.groups:
            continue
        label = f"{row.group} {row.genotype}"
        found.setdefault(label, {})[row.training_seed] = row.wfm_validation
        if label not in names:
            genotype = genotypes[row.group, row.genotype]
            check_genotype(genotype, task.config.space, f"{path}: {label}")
            operations = dict(operations_of(genotype))
            names[label] = tuple(operations[edge] for edge in task.choices.edges)
    if len(found) < LEAST:
        raise SearchError(
            f"effects.trainings: {path} has {len(found)} {' and '.join(settings.groups)} genotypes, expected {LEAST} "
            f"or more. Train more."
        )
    if not (seeds := common_seeds(found)):
        raise SearchError(f"effects.trainings: {path}: its genotypes share no training seed. Train all with one.")
    return list(names.values()), np.array([np.mean([scores[seed] for seed in seeds]) for scores in found.values()])
