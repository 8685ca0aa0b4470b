"""Layouts of datasets: the folders of images and masks, found without configuration.

Recognised by the names of the folders, in any case:
    DUTS-TR, DUTS-TE    DUTS-TR-Image + DUTS-TR-Mask
    ECSSD               images + ground_truth_mask
    DUT-OMRON           DUT-OMRON-image + pixelwiseGT-new-PNG
    HKU-IS              imgs + gt
    PASCAL-S            Imgs (jpg images and png masks in one folder), or datasets/imgs + datasets/masks
    the authors' tests  test_images + test_masks
    anything else       a folder with a word for images in its name and one with a word for masks
The root is the folder of the dataset, or a folder that holds exactly one dataset.

An image and its mask have the same path below their folders, without suffix. Names are compared in Unicode's composed
form (NFC). Where no names are equal, masks may share an ending such as `_mask`. A file without partner is an error.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import DataError
from data.find_files import FoundFiles, search
from data.image_files import IMAGE_SUFFIXES
from data.masks import MaskCoding
from settings.paths import hint

# Names that people give to folders.
_IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "im", "ims", "jpegimages", "picture", "pictures", "photos"})
_MASK_WORDS = frozenset(
    {
        "mask",
        "masks",
        "gt",
        "gts",
        "ground",
        "truth",
        "groundtruth",
        "pixelwisegt",
        "annotation",
        "annotations",
    }
    | {"label", "labels", "segmentation", "segmentations"}
)
_MASK_ENDINGS = ("_mask", "-mask", "_gt", "-gt", "_segmentation", "_label", "_seg")
_SHOWN = 5
_Named = dict[str, list[Path]]


class LayoutError(DataError):
    """Images and masks cannot be found or do not pair."""


@dataclass(frozen=True, order=True)
class Pair:
    """An image and its mask.

    Args:
        name: POSIX path of the image below the folder of images, without suffix.
        image: file of the image.
        mask: file of the mask.
        coding: of the masks of its dataset, see `data.pairs.with_coding`; None until it is found.
    """

    name: str
    image: Path
    mask: Path
    coding: MaskCoding | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Layout:
    """The two folders of a dataset; `images == masks` where jpg images and png masks share one."""

    images: Path
    masks: Path

    def text(self, root: Path) -> str:
        """Both folders as seen from a root, in a few words."""
        images, masks = self.images.relative_to(root), self.masks.relative_to(root)
        return f"{images}" if images == masks else f"{images} + {masks}"


@dataclass(frozen=True)
class Survey:
    """What a dataset holds: the pairs, and all that does not pair.

    Args:
        layout: where the files are.
        images: number of image files.
        masks: number of mask files.
        pairs: sorted by name.
        images_alone: names of images without a mask.
        masks_alone: names of masks without an image.
        twice: names that two images or two masks share, such as `a.jpg` and `a.png`.
        missing: names of the list file with neither image nor mask.
        problems: files and folders that could not be read or are not supported; empty with a list file.
    """

    layout: Layout
    images: int
    masks: int
    pairs: list[Pair]
    images_alone: list[str]
    masks_alone: list[str]
    twice: list[str]
    missing: list[str]
    problems: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """One clause for each kind of fault, with its count and the first names; empty where all pairs."""
        kinds = (
            ("without a mask", self.images_alone),
            ("without an image", self.masks_alone),
            ("found twice", self.twice),
            ("in the list, but with neither image nor mask", self.missing),
            ("left out", self.problems),
        )
        return [f"{len(names)} {kind} ({first_names(names)})" for kind, names in kinds if names]


def find_images(path: str | Path) -> FoundFiles:
    """All images below a folder, or the one file that the path names, and what had to be left out.

    Raises:
        LayoutError: there is nothing, or no file with the suffix of an image.
    """
    path = Path(path)
    if path.is_file():
        return FoundFiles([path])
    if not path.is_dir():
        raise LayoutError(f"{path}: no such file or folder. {hint(path)}")
    found = search(path)
    if found.files:
        return found
    left_out = f" Left out: {first_names([str(problem) for problem in found.problems])}." if found.problems else ""
    suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
    raise LayoutError(f"{path}: holds no image. Searched it and all folders below it for {suffixes}.{left_out}")


def find_pairs(root: str | Path, list_file: str | Path | None = None) -> list[Pair]:
    """The pairs of a dataset, sorted by name.

    Args:
        root: folder of the dataset, or one that holds exactly one dataset.
        list_file: a text file of names, one a line, with or without suffix; only these are used.

    Raises:
        LayoutError: there is no dataset or several, a name has no partner or two, or files could not be read.
    """
    found = survey(root, list_file)
    if faults := found.faults():
        where = f"{found.layout.images} and {found.layout.masks}"
        raise LayoutError(f"{where}: {'; '.join(faults)}. Correct the files, or name the good ones in a list file.")
    return found.pairs


def survey(root: str | Path, list_file: str | Path | None = None) -> Survey:
    """All that a dataset holds, paired or not; `find_pairs` without its strictness.

    Raises:
        LayoutError: there is no dataset or several, no file pairs, or the list file is missing or empty.
    """
    layout = find_layout(root)
    images, masks, problems = _by_name(layout)
    names = None if list_file is None else _listed(Path(list_file), images.keys() | masks.keys())
    wanted = images.keys() | masks.keys() if names is None else names
    twice = {name for name in wanted if len(images.get(name, ())) > 1 or len(masks.get(name, ())) > 1}
    single = wanted - twice
    pairs = [
        Pair(_name(images[n][0], layout.images), images[n][0], masks[n][0])
        for n in single & images.keys() & masks.keys()
    ]
    found = Survey(
        layout=layout,
        images=sum(len(images.get(name, ())) for name in wanted),
        masks=sum(len(masks.get(name, ())) for name in wanted),
        pairs=sorted(pairs),
        images_alone=sorted(n for n in single if n in images and n not in masks),
        masks_alone=sorted(n for n in single if n in masks and n not in images),
        twice=sorted(twice),
        missing=sorted(n for n in single if n not in images and n not in masks),
        problems=problems if list_file is None else [],
    )
    if not found.pairs:
        faults = "; ".join(found.faults()) or "both are empty"
        raise LayoutError(f"{layout.images} and {layout.masks}: no pair of equal names at all: {faults}.")
    return found


def find_layout(root: str | Path) -> Layout:
    """The folders of images and masks below a root.

    Raises:
        LayoutError: there are none or several; the message names what was searched for and what is there.
    """
    root = Path(root)
    if not root.is_dir():
        raise LayoutError(f"{root}: no such folder. {hint(root)}")
    for level in ([root], _folders(root)):
        found = [layout for folder in level for layout in _layouts_in(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            several = first_names([layout.text(root) for layout in found])
            raise LayoutError(f"{root}: holds {len(found)} datasets ({several}). Give the folder of one.")
    held = first_names(sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in _entries(root)))
    raise LayoutError(
        f"{root}: no images with masks found. Searched it and the folders in it for two folders such as "
        f"images + masks, imgs + gt, DUTS-TR-Image + DUTS-TR-Mask, or one folder with jpg and png of each "
        f"name. It holds: {held or 'nothing'}."
    )


def _layouts_in(folder: Path) -> list[Layout]:
    """The datasets of which `folder` itself is the root."""
    inner = _folders(folder)
    masks = [one for one in inner if _words(one) & _MASK_WORDS]
    images = [one for one in inner if one not in masks and _words(one) & _IMAGE_WORDS]
    if len(images) == 1 and len(masks) == 1:
        return [Layout(_descended(images[0]), _descended(masks[0]))]
    # Several of each, as train_images, train_masks, test_images, test_masks: folders pair by their other words.
    pairs = [(i, m) for i in images for m in masks if _subject(i) == _subject(m)]
    if pairs:
        return [Layout(_descended(image), _descended(mask)) for image, mask in pairs]
    return [Layout(one, one) for one in (folder, *images) if _is_shared(one)]


def _descended(folder: Path) -> Path:
    """The folder itself, or the only folder in it: unpacked archives give `images/images`."""
    inner = _folders(folder)
    holds_images = any(_is_image(one) for one in _entries(folder))
    return _descended(inner[0]) if len(inner) == 1 and not holds_images else folder


def _is_shared(folder: Path) -> bool:
    """Whether a folder holds jpg images and png masks of the same names."""
    files = [one for one in _entries(folder) if _is_image(one)]
    masks = {one.stem for one in files if one.suffix.lower() == ".png"}
    return any(one.stem in masks for one in files if one.suffix.lower() != ".png")


def _by_name(layout: Layout) -> tuple[dict[str, list[Path]], dict[str, list[Path]], list[str]]:
    found = [search(folder) for folder in dict.fromkeys((layout.images, layout.masks))]
    images, masks = found[0].files, found[-1].files
    if layout.images == layout.masks:
        images = [one for one in images if one.suffix.lower() != ".png"]
        masks = [one for one in masks if one.suffix.lower() == ".png"]
    problems = [str(problem) for one in found for problem in one.problems]
    return *_matched(named_files(images, layout.images), named_files(masks, layout.masks)), problems


def _matched(images: _Named, masks: _Named) -> tuple[_Named, _Named]:
    """Both as they are; where no names are equal, masks without the ending that all of them share."""
    if not images.keys() & masks.keys():
        for ending in _MASK_ENDINGS:
            if masks and all(name.lower().endswith(ending) for name in masks):
                return images, {name[: -len(ending)]: files for name, files in masks.items()}
    return images, masks


def named_files(files: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Files by their path below a folder: POSIX, without suffix, in Unicode's composed form (NFC)."""
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        named[unicodedata.normalize("NFC", _name(file, folder))].append(file)
    return dict(named)


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _listed(list_file: Path, known: Iterable[str]) -> set[str]:
    try:
        # Names that are no UTF-8 are given to Python in the same way by the file system.
        lines = list_file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise LayoutError(f"{list_file}: cannot be read as a list of names ({error}).") from error
    lines = [unicodedata.normalize("NFC", line) for line in lines]
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    if not names:
        raise LayoutError(f"{list_file}: names no image. Write one name a line.")
    known = set(known)
    return {name if name in known else _without_suffix(name) for name in names}


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folders(folder: Path) -> list[Path]:
    return [one for one in _entries(folder) if one.is_dir() and one.name[0] not in "._"]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise LayoutError(f"{folder}: the folder cannot be read ({error.strerror or error}).") from error


def _words(folder: Path) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", folder.name.lower()))


def _subject(folder: Path) -> set[str]:
    return _words(folder) - _IMAGE_WORDS - _MASK_WORDS


def first_names(names: Sequence[str]) -> str:
    """The first names on one line, the others counted."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
