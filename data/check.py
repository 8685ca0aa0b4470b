"""Checks a dataset before training: `python -m data.check DIR [--list FILE] [--mask-values VALUES]`.

Wrong (exit code 1): files that do not pair, cannot be read or differ in size; masks whose coding is ambiguous; masks
that are all empty or all full. Worth a look (exit code 0): single empty or full masks, and grey masks with values
between 0 and 255, which are foreground from 128 on. Exit code 2: no dataset was found.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from tqdm import tqdm

from data.errors import DataError
from data.image_io import ImageReadError
from data.layouts import Pair, Survey, survey
from data.masks import MaskCoding, MaskCodingError, find_coding, parse_mask_values
from data.pairs import SizeMismatchError, read_pair
from settings import parser as config
from utils.errors import exit_on_user_error, printable

_SHOWN = 10
_KINDS: dict[type[DataError], str] = {
    ImageReadError: "unreadable",
    SizeMismatchError: "of another size than their image",
    MaskCodingError: "masks of ambiguous values",
}


@dataclass(frozen=True)
class PairFacts:
    """What one pair holds.

    Args:
        name: of the pair.
        width: of the image, pixels; 0 when a file is wrong.
        height: of the image, pixels; 0 when a file is wrong.
        foreground_share: share of the pixels of the mask that are foreground, in [0, 1].
        between_share: share of the pixels of the decoded mask that are neither 0 nor 255, in [0, 1].
        fault: what is wrong; None when the pair can be used.
    """

    name: str
    width: int = 0
    height: int = 0
    foreground_share: float = 0.0
    between_share: float = 0.0
    fault: DataError | None = None


@dataclass(frozen=True)
class Report:
    """What a dataset holds: its files, the coding of its masks, and what is in each pair.

    Attributes:
        survey: the files.
        facts: of every pair.
        coding: of the masks, or why it was not found.
    """

    survey: Survey
    facts: list[PairFacts]
    coding: MaskCoding | MaskCodingError

    @property
    def good(self) -> list[PairFacts]:
        """The pairs that can be used."""
        return [one for one in self.facts if one.fault is None]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        found = isinstance(self.coding, MaskCoding)
        return found and not self.survey.faults() and len(self.good) == len(self.facts)

    def text(self) -> str:
        """The report as lines to read."""
        lines = [*self._counts(), *self._contents(), "", *self._faults(), *self._notes()]
        return "\n".join(printable(line) for line in lines)

    def _counts(self) -> list[str]:
        found = self.survey
        return [
            f"images     {found.images} in {found.layout.images} {_suffixes(one.image for one in found.pairs)}",
            f"masks      {found.masks} in {found.layout.masks} {_suffixes(one.mask for one in found.pairs)}",
            f"pairs      {len(found.pairs)}, of which {len(self.good)} can be used",
            *([f"coding     {line}" for line in self.coding.found] if isinstance(self.coding, MaskCoding) else []),
        ]

    def _contents(self) -> list[str]:
        good = self.good
        if not good:
            return []
        widths, heights = [one.width for one in good], [one.height for one in good]
        shares = [100 * one.foreground_share for one in good]
        return [
            f"width      {min(widths)} to {max(widths)} pixels, median {median(widths):.0f}",
            f"height     {min(heights)} to {max(heights)} pixels, median {median(heights):.0f}",
            f"foreground {min(shares):.1f} to {max(shares):.1f} % of the image, median {median(shares):.1f}",
        ]

    def _faults(self) -> list[str]:
        lines = self.survey.faults()
        if isinstance(self.coding, MaskCodingError):
            lines.append(str(self.coding))
        for kind, title in _KINDS.items():
            faults = [str(one.fault) for one in self.facts if type(one.fault) is kind]
            lines += _listed(title, faults)
        return ["WRONG", *_indented(lines)] if lines else ["Nothing is wrong."]

    def _notes(self) -> list[str]:
        good = self.good
        between = sorted((one for one in good if one.between_share), key=lambda one: -one.between_share)
        values = [f"{one.name} ({100 * one.between_share:.1f} % of its pixels)" for one in between]
        lines = [
            *_listed("empty masks", [one.name for one in good if one.foreground_share == 0]),
            *_listed("full masks", [one.name for one in good if one.foreground_share == 1]),
            *_listed("masks that are not binary (foreground from 128 on)", values),
        ]
        return ["WORTH A LOOK", *_indented(lines)] if lines else []


def check(root: str | Path, list_file: str | Path | None = None, mask_values: str = "auto") -> Report:
    """Reads every pair of a dataset.

    Args:
        root: folder of the dataset.
        list_file: names to keep to; all by default.
        mask_values: values of the foreground in masks, see `data.masks`.

    Raises:
        LayoutError: there is no dataset or several, or nothing pairs.
    """
    parse_mask_values(mask_values)
    found = survey(root, list_file)
    try:
        coding = find_coding([pair.mask for pair in found.pairs], mask_values)
    except MaskCodingError as error:
        coding = error
    known = coding if isinstance(coding, MaskCoding) else None
    pairs = [replace(pair, coding=known) for pair in found.pairs]
    with ThreadPoolExecutor() as pool:  # OpenCV and Pillow decode outside of the interpreter's lock
        rows = pool.map(examine, pairs)
        facts = list(tqdm(rows, "reading", len(found.pairs), unit="pair", disable=None, leave=False))
    return Report(found, facts, coding)


def examine(pair: Pair) -> PairFacts:
    """Reads one pair; a fault is part of the result."""
    try:
        image, mask = read_pair(pair)
    except DataError as error:
        return PairFacts(pair.name, fault=error)
    height, width = image.shape[:2]
    extreme = np.count_nonzero(mask == 0) + np.count_nonzero(mask == 255)
    return PairFacts(
        name=pair.name,
        width=width,
        height=height,
        foreground_share=np.count_nonzero(mask >= 128) / mask.size,
        between_share=1 - extreme / mask.size,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 0 when nothing is wrong, else 1."""
    parser = config.arguments(__doc__, "python -m data.check")
    parser.add_argument("root", type=Path, help="folder of the dataset")
    parser.add_argument("--list", type=Path, dest="list_file", help="text file of names, one a line")
    parser.add_argument(
        "--mask-values", default="auto", help="foreground in masks: auto, nonzero, alpha, or values such as 1,128..255"
    )
    options = parser.parse_args(arguments)
    cv2.setNumThreads(0)
    report = check(options.root, options.list_file, options.mask_values)
    print(report.text())
    return 0 if report.is_good else 1


def _suffixes(files: Iterable[Path]) -> str:
    counts = Counter(file.suffix.lower() for file in files)
    return f"({', '.join(suffix for suffix, _ in counts.most_common())})"


def _listed(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = len(items) - _SHOWN
    more = [f"  and {rest} more"] if rest > 0 else []
    return [f"{len(items)} {title}", *(f"  {item}" for item in items[:_SHOWN]), *more]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
