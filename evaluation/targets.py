"""The masks of a benchmark that maps are scored against. Images are optional: only sheets and the page show them."""

from dataclasses import dataclass, replace
from pathlib import Path

from data.layouts import LayoutError, find_images, survey
from data.masks import MaskCoding, find_coding


@dataclass(frozen=True)
class Target:
    """A mask, and its image where there is one.

    Args:
        name: POSIX path below the folder of masks, without suffix.
        mask: file of the mask.
        image: file of the image; None where there is none.
        coding: of the dataset's masks; None: it is found from the mask only.
    """

    name: str
    mask: Path
    image: Path | None = None
    coding: MaskCoding | None = None


def find_targets(root: Path, mask_values: str = "auto") -> list[Target]:
    """The masks of a benchmark, sorted by name, with their coding.

    Args:
        root: a folder of images and masks in any layout of `data.layouts`, or of masks alone, or the only such folder
            below it.
        mask_values: values of the foreground, see `data.masks`; auto finds them.

    Raises:
        LayoutError: there are neither; an image has no mask; a name is found twice.
        MaskCodingError: the values of the masks are ambiguous.
    """
    targets = _found(root)
    coding = find_coding([target.mask for target in targets], mask_values)
    return [replace(target, coding=coding) for target in targets]


def _found(root: Path) -> list[Target]:
    try:
        found = survey(root)
    except LayoutError as error:
        if (folder := _masks_alone(root)) is None:
            raise
        return _targets(folder, error)
    if faults := replace(found, masks_alone=[]).faults():
        raise LayoutError(f"{found.layout.images} and {found.layout.masks}: {'; '.join(faults)}. Mend the files.")
    paired = [Target(pair.name, pair.mask, pair.image) for pair in found.pairs]
    alone = set(found.masks_alone)
    others = [target for target in _named(found.layout.masks) if target.name in alone] if alone else []
    return sorted([*paired, *others], key=lambda target: target.name)


def _masks_alone(root: Path) -> Path | None:
    """The folder of masks of a benchmark without images: the root, or the only folder in it; None if there is none."""
    try:
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")]
        holding = [folder for folder in folders if any(_is_mask(path) for path in folder.iterdir())]
    except OSError:
        return None
    return holding[0] if len(holding) == 1 else None


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp") and path.name[0] != "."


def _targets(folder: Path, error: LayoutError) -> list[Target]:
    targets = _named(folder)
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LayoutError(f"{folder}: two masks have the name {twice}. Keep one.") from error
    return targets


def _named(folder: Path) -> list[Target]:
    found = find_images(folder)
    if found.problems:
        raise LayoutError(f"{folder}: {found.problems[0]}. Mend the folder.")
    return [Target(path.relative_to(folder).with_suffix("").as_posix(), path) for path in found.files if _is_mask(path)]
