"""Which images a run takes and where their outputs go.

Outputs of one kind (maps, overlay, cutout) share a folder below the output folder and mirror the tree of the input:
`photos/2024/dog.jpg` becomes `OUT/maps/2024/dog.png`. A dataset NAME gets a folder of its own, `OUT/maps/NAME/`. For a
single image `OUT` may be the file itself.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.layouts import find_images, find_pairs
from inference.cutouts import SUFFIXES, Style, check_format
from utils.errors import UserError
from utils.files import remove_parts

KINDS = ("maps", "overlay", "cutout")


class TaskError(UserError):
    """Inputs and outputs that do not fit together."""


@dataclass(frozen=True)
class Task:
    """One image of a run.

    Attributes:
        name: of its outputs: POSIX path below `OUT/maps` and so on, without `.png`.
        image: the image's file.
        source: POSIX path of the image below its root, for a dataset after its name; the same wherever the root is.
        mask: its mask, in a dataset.
    """

    name: str
    image: Path
    source: str = ""
    mask: Path | None = None


@dataclass(frozen=True)
class ImageSet:
    """Images that belong together: those of a folder, or a dataset.

    Attributes:
        title: of progress bar and sheet.
        root: the folder or file that they come from.
        tasks: the images.
        has_masks: whether they are scored.
        shards: whether the tasks are tar shards of many images each, see `inference.shards`.
        mask_values: values of the foreground in masks, see `data.masks`.
        notes: printed before the run.
        problems: files that look like images and are not read, a line each.
    """

    title: str
    root: Path
    tasks: tuple[Task, ...]
    has_masks: bool = False
    shards: bool = False
    mask_values: str = "auto"
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """Where a run writes.

    Attributes:
        out: `--out`.
        kinds: which of `KINDS` are written.
        file: whether `out` is the file of the only output.
        suffix: of the outputs of a task.
    """

    out: Path
    kinds: tuple[str, ...] = ("maps",)
    file: bool = False
    suffix: str = ".png"

    @classmethod
    def of(cls, out: Path, drawn: Sequence[str], sets: Sequence[ImageSet], style: Style) -> "Outputs":
        """Decides whether `out` names a file: it has the suffix of an image and is no folder.

        Raises:
            TaskError, CutoutError: it names a file, but there are several images or outputs, or the format is wrong.
        """
        if any(each.shards for each in sets):
            return cls(out, ("maps", *drawn), suffix=".tar")
        if out.is_dir() or out.suffix.lower() not in SUFFIXES:
            return cls(out, ("maps", *drawn))
        count = sum(len(each.tasks) for each in sets)
        if count != 1 or len(drawn) > 1:
            what = f"{count} images" if count != 1 else " and ".join(drawn)
            raise TaskError(f"--out {out}: is one file, but the run has {what}. Give a folder as --out.")
        check_format(out, alpha=list(drawn) == ["cutout"] and style.has_alpha)
        return cls(out, (drawn[0] if drawn else "maps",), file=True)

    def path(self, task: Task, kind: str) -> Path:
        """The file of one of the `KINDS` of an image."""
        return self.out if self.file else self.out / kind / f"{task.name}{self.suffix}"

    def paths(self, task: Task) -> list[Path]:
        """All files of an image."""
        return [self.path(task, kind) for kind in self.kinds]

    def remove_parts(self) -> None:
        """Removes what a killed run left half-written. Call it while the lock of the output is held.

        Raises:
            WriteError: a file cannot be removed.
        """
        if self.file:
            remove_parts(self.out.parent, stem=self.out.stem)
        else:
            remove_parts(self.out, KINDS)

    @property
    def folder(self) -> Path:
        """The folder of the records: `OUT`, or that of the file."""
        return self.out.parent if self.file else self.out


def folder_set(path: Path) -> ImageSet:
    """All images of a folder and the folders below it, or one file.

    Two images whose names differ only in the suffix would share one output. Their outputs keep the suffix:
    `a.jpg` and `a.png` become `a.jpg.png` and `a.png.png`.

    Raises:
        LayoutError: nothing is there, or no image.
        TaskError: even then two images share a name.
    """
    root = path.parent if path.is_file() else path
    found = find_images(path)
    places = [image.relative_to(root) for image in found.files]
    shared = Counter(place.with_suffix("") for place in places)
    doubled = [place for place in places if shared[place.with_suffix("")] > 1]
    whole = set(doubled)
    tasks = [
        Task((place if place in whole else place.with_suffix("")).as_posix(), root / place, place.as_posix())
        for place in places
    ]
    _check_names(tasks)
    title = path.stem if path.is_file() else path.resolve().name
    problems = tuple(str(problem) for problem in found.problems)
    return ImageSet(title, path, tuple(tasks), notes=_note(doubled), problems=problems)


def dataset_set(name: str, root: Path, mask_values: str = "auto") -> ImageSet:
    """The images of a dataset in any layout that `data.layouts` finds.

    `mask_values` states the foreground of masks, see `data.masks`.

    Raises:
        LayoutError: no dataset is there, or some of it does not pair.
    """
    pairs = find_pairs(root)
    tasks = tuple(Task(f"{name}/{pair.name}", pair.image, f"{name}/{pair.name}", pair.mask) for pair in pairs)
    return ImageSet(name, root, tasks, has_masks=True, mask_values=mask_values)


def input_paths(sets: Sequence[ImageSet]) -> Iterator[Path]:
    """Every file and folder that the sets are read from."""
    for each in sets:
        if not each.shards:  # the folder of shards is not searched
            yield each.root
        for task in each.tasks:
            yield task.image
            if task.mask is not None:
                yield task.mask


def _check_names(tasks: Sequence[Task]) -> None:
    owners: dict[str, Path] = {}
    for task in tasks:
        if task.name in owners:
            raise TaskError(
                f"{owners[task.name]} and {task.image}: both would be written as {task.name}.png. Rename one of them."
            )
        owners[task.name] = task.image


def _note(doubled: Sequence[Path]) -> tuple[str, ...]:
    if not doubled:
        return ()
    first, second = (place.as_posix() for place in doubled[:2])
    return (
        f"{len(doubled)} images share their name with another but for the suffix, such as {first} and {second}: "
        f"their outputs keep it ({first}.png). If some of them are masks, use --data NAME=DIR instead.",
    )
