"""Settings of `search.py compare`. Imports no torch, so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from nas.settings import SearchError, at_least
from settings.limits import Count, Limit, OptionalCount

RANDOM, PUBLISHED, UNDILATED, HOMOGENEOUS = "random", "published", "undilated", "homogeneous"
"""Groups of genotypes of a comparison that no search makes."""


@dataclass(frozen=True)
class CompareConfig:
    """A comparison of searched, published and random cells. `search.py compare --help` lists the options.

    Attributes:
        data: the dataset that searches and trainings draw from.
        search: settings of a search; its space is that of the random genotypes and its network is trained.
        train: settings of a training, the same for all.
        benchmarks: name -> dataset for the final scores.
        variants: name -> further arguments of search.py, as one line; each is searched with every search seed.
        images: drawn by seed 0 from `data` to search and train on.
        held_out: as many further ones to score on.
        search_seeds: one search for each, of every variant.
        random_seeds: one random genotype for each.
        target: multiply-accumulates of the 31 edges that random genotypes have to within 2 %; 0 draws evenly.
        published: names of published genotypes.
        undilated: groups (`random`, `published`) or genotypes (`random_0`) that are also trained with every dilated
            operation replaced by the plain one of the same cost.
        taken: groups (`oneshot`) or genotypes (`oneshot_0`) of `source` that are trained here as well.
        source: evidence that they come from.
        homogeneous: whether genotypes with one operation on all edges are trained, one for each operation.
        train_seeds: one training for each, of every genotype.
        consensus: names of variants whose searches also vote together: one genotype from the mean of their weights,
            in a group of its own.
        earlier: compare.json of a comparison with the same images and budget, whose results are reported beside.
        jobs: searches, and trainings, that run side by side, each with its share of the cores.
        encoder_weights: for search.py and train.py.
        evidence: folder whose trainings.csv gets a row for each training; null for none.
        searches_only: run the searches and keep what they find in `evidence`; train nothing.
        report: write the tables of docs/search.md and of benchmarks/compare_lite from committed files, run nothing.
        out: folder of the comparison.
    """

    data: Path = Path("DUTS-TR")
    search: Path = Path("configs/search_lite.yaml")
    train: Path = Path("configs/compare_train.yaml")
    benchmarks: dict[str, Path] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=lambda: {"searched": ""})
    images: OptionalCount = 1500
    held_out: Count = 150
    search_seeds: Annotated[list[int], Limit(0, 2**32 - 1)] = field(default_factory=lambda: [0, 1, 2])
    random_seeds: Annotated[list[int], Limit(0, 2**32 - 1)] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    target: Annotated[float, Limit(0, 1e18)] = 0.0
    published: list[str] = field(default_factory=lambda: ["resnet50"])
    undilated: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    source: Path = Path("benchmarks/search_evidence")
    homogeneous: bool = False
    train_seeds: Annotated[list[int], Limit(0, 2**32 - 1)] = field(default_factory=lambda: [0, 1])
    consensus: list[str] = field(default_factory=list)
    earlier: Path | None = None
    jobs: Count = 1
    encoder_weights: str = "imagenet"
    evidence: Path | None = None
    searches_only: bool = False
    report: bool = False
    out: Path = Path("runs/compare")

    def __post_init__(self) -> None:
        taken = [name for name in self.variants if name in (RANDOM, PUBLISHED, UNDILATED, HOMOGENEOUS)]
        if taken:
            raise SearchError(f"variants: '{taken[0]}' is the name of another group. Choose another.")
        unknown = [name for name in self.consensus if name not in self.variants]
        if unknown:
            raise SearchError(f"consensus: '{unknown[0]}' is none of the variants ({', '.join(self.variants)}).")
        wrong = [name for name in self.undilated if name.partition("_")[0] not in (RANDOM, PUBLISHED)]
        if wrong:
            raise SearchError(f"undilated: '{wrong[0]}', expected {RANDOM}, {PUBLISHED}, or a genotype as {RANDOM}_0.")
        for name, least in (("jobs", 1), ("target", 0)):
            at_least(name, getattr(self, name), least)
