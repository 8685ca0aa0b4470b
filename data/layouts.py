"""Where a data set keeps its pictures and its masks, found without configuration.

Known by the folders' names, whatever their case:
    DUTS-TR, DUTS-TE    DUTS-TR-Image + DUTS-TR-Mask
    ECSSD               images + ground_truth_mask
    DUT-OMRON           DUT-OMRON-image + pixelwiseGT-new-PNG
    HKU-IS              imgs + gt
    PASCAL-S            Imgs (jpg pictures and png masks in one folder), or datasets/imgs + datasets/masks
    the authors' tests  test_images + test_masks
    anything else       a folder whose name says pictures beside one whose name says masks
The root may be the data set's folder, or a folder that holds just one data set.

A picture and its mask have the same path below their folders, but for the suffix. Nothing is guessed
beyond that: what has no partner is an error, not left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from data.image_io import IMAGE_SUFFIXES

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
_SHOWN = 5


class LayoutError(DataError):
    """Pictures and masks cannot be found or do not pair."""


@dataclass(frozen=True, order=True)
class Pair:
    """A picture and its mask.

    Args:
        name: POSIX path of the picture below the folder of pictures, without suffix.
        image: file of the picture.
        mask: file of the mask.
    """

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Layout:
    """The two folders of a data set; `images == masks` where jpg pictures and png masks share one."""

    images: Path
    masks: Path

    def text(self, root: Path) -> str:
        """Both folders as seen from a root, in a few words."""
        images, masks = self.images.relative_to(root), self.masks.relative_to(root)
        return f"{images}" if images == masks else f"{images} + {masks}"


@dataclass(frozen=True)
class Survey:
    """What a data set holds: the pairs, and all that does not pair.

    Args:
        layout: where the files are.
        images: number of files of pictures.
        masks: number of files of masks.
        pairs: sorted by name.
        images_alone: names of pictures without a mask.
        masks_alone: names of masks without a picture.
        twice: names that two pictures or two masks share, such as `a.jpg` and `a.png`.
        missing: names of the list file of which there is neither picture nor mask.
    """

    layout: Layout
    images: int
    masks: int
    pairs: list[Pair]
    images_alone: list[str]
    masks_alone: list[str]
    twice: list[str]
    missing: list[str]

    def faults(self) -> list[str]:
        """One clause for each kind of fault, with its count and the first names; empty where all pairs."""
        kinds = (
            ("without a mask", self.images_alone),
            ("without a picture", self.masks_alone),
            ("found twice", self.twice),
            ("in the list, but with neither picture nor mask", self.missing),
        )
        return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names]


def find_images(path: str | Path) -> list[Path]:
    """All pictures below a folder, sorted; or the one file that the path names.

    Raises:
        LayoutError: nothing is there, or no file with the suffix of a picture.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LayoutError(f"{path}: no such file or folder.")
    if found := _pictures(path):
        return found
    raise LayoutError(f"{path}: holds no picture. Looked for {_suffixes()} in it and all folders below it.")


def find_pairs(root: str | Path, list_file: str | Path | None = None) -> list[Pair]:
    """The pairs of a data set, sorted by name.

    Args:
        root: folder of the data set, or one that holds just one data set.
        list_file: a text file of names, one a line, with or without suffix; only these are taken.

    Raises:
        LayoutError: no data set or several are there, or a name has no partner or two.
    """
    found = survey(root, list_file)
    if faults := found.faults():
        where = f"{found.layout.images} and {found.layout.masks}"
        raise LayoutError(f"{where}: {'; '.join(faults)}. Mend the files, or name the good ones in a list file.")
    return found.pairs


def survey(root: str | Path, list_file: str | Path | None = None) -> Survey:
    """All that a data set holds, paired or not; `find_pairs` without its strictness.

    Raises:
        LayoutError: no data set or several are there, no file pairs, or the list file is missing or empty.
    """
    layout = find_layout(root)
    images, masks = _by_name(layout)
    names = None if list_file is None else _listed(Path(list_file), images.keys() | masks.keys())
    wanted = images.keys() | masks.keys() if names is None else names
    twice = {name for name in wanted if len(images.get(name, ())) > 1 or len(masks.get(name, ())) > 1}
    single = wanted - twice
    found = Survey(
        layout=layout,
        images=sum(len(images.get(name, ())) for name in wanted),
        masks=sum(len(masks.get(name, ())) for name in wanted),
        pairs=sorted(Pair(n, images[n][0], masks[n][0]) for n in single if n in images and n in masks),
        images_alone=sorted(n for n in single if n in images and n not in masks),
        masks_alone=sorted(n for n in single if n in masks and n not in images),
        twice=sorted(twice),
        missing=sorted(n for n in single if n not in images and n not in masks),
    )
    if not found.pairs:
        faults = "; ".join(found.faults()) or "both are empty"
        raise LayoutError(f"{layout.images} and {layout.masks}: no pair of equal names at all: {faults}.")
    return found


def find_layout(root: str | Path) -> Layout:
    """The folders of pictures and of masks below a root.

    Raises:
        LayoutError: none are found, or several, with what was looked for and what is there.
    """
    root = Path(root)
    if not root.is_dir():
        raise LayoutError(f"{root}: no such folder.")
    for level in ([root], _folders(root)):
        found = [layout for folder in level for layout in _layouts_in(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            several = _some([layout.text(root) for layout in found])
            raise LayoutError(f"{root}: holds {len(found)} data sets ({several}). Name the folder of one.")
    held = _some(sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir()))
    raise LayoutError(
        f"{root}: no pictures with masks found. Looked here and one folder down for two folders such as "
        f"images + masks, imgs + gt, DUTS-TR-Image + DUTS-TR-Mask, or one folder with jpg and png of each "
        f"name. There is: {held or 'nothing'}."
    )


def _layouts_in(folder: Path) -> list[Layout]:
    """The data sets of which `folder` itself is the root."""
    inner = _folders(folder)
    masks = [one for one in inner if _words(one) & _MASK_WORDS]
    images = [one for one in inner if one not in masks and _words(one) & _IMAGE_WORDS]
    if len(images) == 1 and len(masks) == 1:
        return [Layout(_descended(images[0]), _descended(masks[0]))]
    # Several of each, as train_images, train_masks, test_images, test_masks: equal other words pair.
    pairs = [(i, m) for i in images for m in masks if _subject(i) == _subject(m)]
    if pairs:
        return [Layout(_descended(image), _descended(mask)) for image, mask in pairs]
    return [Layout(one, one) for one in (folder, *images) if _is_shared(one)]


def _descended(folder: Path) -> Path:
    """The folder itself, or the only one in it: archives unpacked by hand give `images/images`."""
    inner = _folders(folder)
    holds_pictures = any(_is_picture(one) for one in folder.iterdir())
    return _descended(inner[0]) if len(inner) == 1 and not holds_pictures else folder


def _is_shared(folder: Path) -> bool:
    """Whether a folder holds jpg pictures and png masks of the same names."""
    files = [one for one in folder.iterdir() if _is_picture(one)]
    masks = {one.stem for one in files if one.suffix.lower() == ".png"}
    return any(one.stem in masks for one in files if one.suffix.lower() != ".png")


def _by_name(layout: Layout) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    images, masks = _pictures(layout.images), _pictures(layout.masks)
    if layout.images == layout.masks:
        images = [one for one in images if one.suffix.lower() != ".png"]
        masks = [one for one in masks if one.suffix.lower() == ".png"]
    return _named(images, layout.images), _named(masks, layout.masks)


def _named(files: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        named[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    return dict(named)


def _listed(list_file: Path, known: Iterable[str]) -> set[str]:
    try:
        lines = list_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"{list_file}: cannot be read as a list of names ({error}).") from error
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    if not names:
        raise LayoutError(f"{list_file}: names no picture. Write one name a line.")
    known = set(known)
    return {name if name in known else _without_suffix(name) for name in names}


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _pictures(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if _is_picture(one))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] not in "._")


def _words(folder: Path) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", folder.name.lower()))


def _subject(folder: Path) -> set[str]:
    return _words(folder) - _IMAGE_WORDS - _MASK_WORDS


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
