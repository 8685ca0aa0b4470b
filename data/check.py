"""Looks a data set through before training: `python -m data.check DIR [--list FILE]`.

Wrong (exit code 1): what does not pair, cannot be read, differs in size, or has masks of 0 and 1.
Worth a look (exit code 0): empty masks, full masks, and masks with values between 0 and 255, which are
read as object from 128 on. No data set found at all: exit code 2.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from tqdm import tqdm

from data.errors import DataError
from data.image_io import ImageReadError
from data.layouts import Pair, Survey, survey
from data.pairs import MaskRangeError, SizeMismatchError, read_pair
from utils.errors import exit_on_user_error

_SHOWN = 10
_KINDS: dict[type[DataError], str] = {
    ImageReadError: "unreadable",
    SizeMismatchError: "of another size than their picture",
    MaskRangeError: "masks of 0 and 1",
}


@dataclass(frozen=True)
class PairFacts:
    """What one pair holds.

    Args:
        name: of the pair.
        width: of the picture, pixels; 0 when a file is wrong.
        height: of the picture, pixels; 0 when a file is wrong.
        object_share: part of the mask that is 128 or more, in [0, 1].
        between_share: part of the mask that is neither 0 nor 255, in [0, 1].
        fault: what is wrong; None when the pair can be used.
    """

    name: str
    width: int = 0
    height: int = 0
    object_share: float = 0.0
    between_share: float = 0.0
    fault: DataError | None = None


@dataclass(frozen=True)
class Report:
    """What a data set holds: which files there are, and what is in each pair."""

    survey: Survey
    facts: list[PairFacts]

    @property
    def good(self) -> list[PairFacts]:
        """The pairs that can be used."""
        return [one for one in self.facts if one.fault is None]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.survey.faults() and len(self.good) == len(self.facts)

    def text(self) -> str:
        """The report as lines to read."""
        lines = [*self._counts(), *self._contents(), "", *self._faults(), *self._notes()]
        return "\n".join(lines)

    def _counts(self) -> list[str]:
        found = self.survey
        return [
            f"pictures   {found.images} in {found.layout.images} {_suffixes(one.image for one in found.pairs)}",
            f"masks      {found.masks} in {found.layout.masks} {_suffixes(one.mask for one in found.pairs)}",
            f"pairs      {len(found.pairs)}, of which {len(self.good)} can be used",
        ]

    def _contents(self) -> list[str]:
        good = self.good
        if not good:
            return []
        widths, heights = [one.width for one in good], [one.height for one in good]
        shares = [100 * one.object_share for one in good]
        return [
            f"width      {min(widths)} to {max(widths)} pixels, median {median(widths):.0f}",
            f"height     {min(heights)} to {max(heights)} pixels, median {median(heights):.0f}",
            f"object     {min(shares):.1f} to {max(shares):.1f} % of the picture, median {median(shares):.1f}",
        ]

    def _faults(self) -> list[str]:
        lines = self.survey.faults()
        for kind, title in _KINDS.items():
            faults = [str(one.fault) for one in self.facts if type(one.fault) is kind]
            lines += _listed(title, faults)
        return ["WRONG", *_indented(lines)] if lines else ["Nothing is wrong."]

    def _notes(self) -> list[str]:
        good = self.good
        between = sorted((one for one in good if one.between_share), key=lambda one: -one.between_share)
        values = [f"{one.name} ({100 * one.between_share:.1f} % of its pixels)" for one in between]
        lines = [
            *_listed("empty masks", [one.name for one in good if one.object_share == 0]),
            *_listed("full masks", [one.name for one in good if one.object_share == 1]),
            *_listed("masks that are not binary (object from 128 on)", values),
        ]
        return ["WORTH A LOOK", *_indented(lines)] if lines else []


def check(root: str | Path, list_file: str | Path | None = None) -> Report:
    """Reads every pair of a data set.

    Args:
        root: folder of the data set.
        list_file: names to keep to; all by default.

    Raises:
        LayoutError: no data set is there, several are, or nothing pairs.
    """
    found = survey(root, list_file)
    with ThreadPoolExecutor() as pool:  # OpenCV and Pillow decode outside of the interpreter's lock
        rows = pool.map(examine, found.pairs)
        facts = list(tqdm(rows, "reading", len(found.pairs), unit="pair", disable=None, leave=False))
    return Report(found, facts)


def examine(pair: Pair) -> PairFacts:
    """Reads one pair; a fault is part of what it gives back."""
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
        object_share=np.count_nonzero(mask >= 128) / mask.size,
        between_share=1 - extreme / mask.size,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 0 when nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(prog="python -m data.check", description="Looks a data set through.")
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--list", type=Path, dest="list_file", help="text file of names, one a line")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(0)
    report = check(options.root, options.list_file)
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
