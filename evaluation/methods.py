"""Several methods on several benchmarks: gathered strictly, scored, and resampled."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import comb
from pathlib import Path

from evaluation.comparison import Comparison, compare, corrected, enough_permutations
from evaluation.map_files import ScorePair, check_sizes, pair_maps
from evaluation.map_names import shown
from evaluation.metrics import DatasetScores
from evaluation.scoring import score_maps
from evaluation.statistics import RESAMPLES, Resampled, resample
from evaluation.tables.scores import Interval, ScoreTable, score_table
from evaluation.targets import Target, find_targets
from utils.errors import UserError


@dataclass(frozen=True)
class DataSet:
    """A benchmark and every method's maps of it.

    Args:
        targets: masks, and images where there are any, sorted by name.
        maps: method -> its maps, in the order of `targets`.
    """

    name: str
    targets: Sequence[Target]
    maps: Mapping[str, Sequence[ScorePair]]

    @property
    def files(self) -> list[Path]:
        """Every file that is read."""
        images = [target.image for target in self.targets if target.image is not None]
        masks = [target.mask for target in self.targets]
        return [*masks, *images, *(pair.map_path for pairs in self.maps.values() for pair in pairs)]

    @property
    def names(self) -> list[str]:
        """Names of the images as text that any file can hold."""
        return [shown(target.name) for target in self.targets]

    @property
    def has_images(self) -> bool:
        """Whether there is an image of every mask."""
        return all(target.image is not None for target in self.targets)


@dataclass(frozen=True)
class Evaluated:
    """A dataset with every method's scores.

    Args:
        scores: method -> scores, their rows in the order of `data_set.targets`.
        intervals: method -> measure -> ends of the 95 % interval; empty if none were asked for.
    """

    data_set: DataSet
    scores: Mapping[str, DatasetScores]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def table(self) -> ScoreTable:
        """The scores beside Table 1."""
        measured = {method: scores.measures for method, scores in self.scores.items()}
        return score_table(self.data_set.name, len(self.data_set.targets), measured, self.intervals)


class Problems:
    """Collects all problems of the input, so that one error lists them."""

    def __init__(self) -> None:
        self._told: list[str] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Runs a block of which a `UserError` is kept for later."""
        try:
            yield
        except UserError as error:
            self._told.append(str(error))

    def tell(self) -> None:
        """Raises one `UserError` with all that was collected, if anything was."""
        if self._told:
            raise UserError("\n".join(self._told))


def gather(
    data: Mapping[str, Path],
    methods: Mapping[str, Path],
    mask_values: str = "auto",
    pattern: str | None = None,
    sizes: bool = True,
) -> list[DataSet]:
    """Finds the masks of every benchmark and pairs every method's maps with them.

    The maps of a benchmark NAME lie in `DIR/NAME` if there is such a folder, otherwise in `DIR` itself.

    Args:
        data: benchmark -> its folder.
        methods: method -> folder of its maps.
        mask_values: values of the foreground of masks, see `data.masks`.
        pattern: how maps are named, see `evaluation.map_names`.
        sizes: whether a map of another size than its mask is an error.

    Raises:
        UserError: all that does not pair, of all benchmarks and methods.
    """
    problems = Problems()
    data_sets = []
    for name, root in data.items():
        with problems.collected():
            targets = find_targets(root, mask_values)
            maps: dict[str, list[ScorePair]] = {}
            for method, folder in methods.items():
                with problems.collected():
                    maps[method] = pair_maps(targets, folder / name if (folder / name).is_dir() else folder, pattern)
                    if sizes:
                        check_sizes(maps[method])
            data_sets.append(DataSet(name, targets, maps))
    problems.tell()
    return data_sets


def evaluate(
    data_sets: Sequence[DataSet], workers: int | None = None, resize: bool = False, resamples: int = RESAMPLES
) -> tuple[list[Evaluated], list[Comparison]]:
    """Scores every method on every dataset; intervals and paired tests unless `resamples` is 0.

    Raises:
        UserError: all maps that cannot be scored, of all methods.
    """
    problems = Problems()
    evaluated: list[Evaluated] = []
    comparisons: list[Comparison] = []
    permutations = enough_permutations(resamples, sum(comb(len(each.maps), 2) for each in data_sets))
    for data_set in data_sets:
        scores: dict[str, DatasetScores] = {}
        for method, maps in data_set.maps.items():
            with problems.collected():
                scores[method] = score_maps(maps, workers, resize, f"{method} on {data_set.name}")
        if resamples and len(scores) == len(data_set.maps):
            samples = {method: resample(found, resamples) for method, found in scores.items()}
            comparisons += compare(data_set.name, scores, samples, permutations)
            intervals = {method: _intervals(samples[method], tuple(found.measures)) for method, found in scores.items()}
            evaluated.append(Evaluated(data_set, scores, intervals))
        else:
            evaluated.append(Evaluated(data_set, scores))
    problems.tell()
    return evaluated, corrected(comparisons)


def _intervals(sample: Resampled, keys: Sequence[str]) -> dict[str, Interval]:
    ends = sample.intervals()
    return {key: (float(low), float(high)) for key, (low, high) in zip(keys, ends, strict=True)}
