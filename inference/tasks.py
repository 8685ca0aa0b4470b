"""Which pictures a run takes, what their outputs are called, and that none of them falls on an input.

Outputs of one kind (maps, overlay, cutout) share a folder below the output folder, and mirror the tree of the input:
`photos/2024/dog.jpg` becomes `OUT/maps/2024/dog.png`; a benchmark NAME gets a folder of its own, `OUT/maps/NAME/`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.layouts import find_images, find_pairs
from utils.errors import UserError

KINDS = ("maps", "overlay", "cutout")


class JobError(UserError):
    """Inputs and outputs that cannot go together."""


@dataclass(frozen=True)
class Task:
    """One picture of a run.

    Args:
        name: of its outputs: POSIX path below `OUT/maps` and so on, without `.png`.
        image: the picture's file.
        mask: its mask, in a benchmark.
    """

    name: str
    image: Path
    mask: Path | None = None

    def output(self, out: Path, kind: str) -> Path:
        """The file that holds one of the `KINDS` of this picture."""
        return out / kind / f"{self.name}.png"


@dataclass(frozen=True)
class Job:
    """Pictures that belong together.

    Args:
        title: of progress bar and sheet.
        root: folder or file that they come from.
        tasks: the pictures.
        benchmark: whether they have masks, to be scored.
        notes: what the user should know before the run.
    """

    title: str
    root: Path
    tasks: tuple[Task, ...]
    benchmark: bool = False
    notes: tuple[str, ...] = ()


def folder_job(path: Path) -> Job:
    """All pictures of a folder and the folders below it, or one file.

    Two pictures that differ in their suffix alone would share one output. They keep the suffix in its name:
    `a.jpg` and `a.png` become `a.jpg.png` and `a.png.png`.

    Raises:
        LayoutError: nothing is there, or no picture.
        JobError: even then two pictures share a name.
    """
    root = path.parent if path.is_file() else path
    places = [image.relative_to(root) for image in find_images(path).files]
    shared = Counter(place.with_suffix("") for place in places)
    doubled = [place for place in places if shared[place.with_suffix("")] > 1]
    whole = set(doubled)
    tasks = [Task((place if place in whole else place.with_suffix("")).as_posix(), root / place) for place in places]
    _no_two_alike(tasks)
    return Job(path.name or str(path), path, tuple(tasks), notes=_note(doubled))


def benchmark_job(name: str, root: Path) -> Job:
    """All pictures of a data set that has masks, in any layout that `data.layouts` knows.

    Raises:
        LayoutError: no data set is there, or pictures and masks do not pair.
    """
    pairs = find_pairs(root)
    return Job(name, root, tuple(Task(f"{name}/{pair.name}", pair.image, pair.mask) for pair in pairs), benchmark=True)


def check_places(jobs: Sequence[Job], out: Path) -> None:
    """Makes sure that outputs can be written and that none lies among the inputs, where it would replace a picture
    or be taken for one in the next run.

    Raises:
        JobError: naming both folders.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"--out {out}: no folder can be made there ({error.strerror or error}).") from error
    target = out.resolve()
    for job in jobs:
        source = job.root.resolve()
        if source.is_dir() and target.is_relative_to(source):
            where = "is the input folder" if target == source else f"lies inside the input folder {job.root}"
            raise JobError(f"--out {out}: {where}; its pictures would be mixed with the outputs. Choose another place.")
        for kind in KINDS:
            if source.is_relative_to(target / kind):
                raise JobError(
                    f"{job.root}: lies inside {out / kind}, where this run writes; inputs would be overwritten. "
                    "Choose another --out."
                )


def _no_two_alike(tasks: Sequence[Task]) -> None:
    owners: dict[str, Path] = {}
    for task in tasks:
        if task.name in owners:
            raise JobError(
                f"{owners[task.name]} and {task.image}: both would be written as {task.name}.png. Rename one of them."
            )
        owners[task.name] = task.image


def _note(doubled: Sequence[Path]) -> tuple[str, ...]:
    if not doubled:
        return ()
    first, second = (place.as_posix() for place in doubled[:2])
    return (
        f"{len(doubled)} pictures share their name with another but for the suffix, such as {first} and {second}: "
        f"their outputs keep it ({first}.png). If some of them are masks, use --data NAME=DIR instead.",
    )
