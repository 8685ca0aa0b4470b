"""The one decoder of masks: from any coding to foreground and background.

A mask is foreground where it is not background. `find_coding` decides for a whole dataset, from some of its masks,
which values are foreground; `read_mask` applies that decision.

    values                                  foreground
    0 to 255, values between included       from 128 on, as in the standard benchmarks
    0 and other values below 128            every value but 0: 0/1, 0/127, class ids
    16 bits up to 65535                     from half of the range on; smaller values as above
    palette or colours with black           every colour but black
    opaque on transparent                   opaque

Everything else is ambiguous: an error that shows the values. `mask_values` states the coding instead:

    nonzero        every value but 0, every colour but black
    alpha          what is opaque
    1,2,128..255   these values: greys, 16-bit values or palette indices
    ff0000         these colours
    not:0,255      all other values or colours
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.image_files import OpenImage, Pixels, open_image, reading
from data.mask_values import Kind, MaskContent, StoredMask, examine, greys, kind_of, stored_mask

SURVEYED = 32
"""Masks of a dataset that are read to find its coding."""

_FEW = 40  # distinct values of class ids at most
_SMALL_ID = 40  # the largest id that occurs beside a "void" of 255
_SOME = 0.01
_SHOWN = 4
_VALUE = re.compile(r"(\d{1,5})(?:\.\.(\d{1,5}))?|([0-9a-fA-F]{6})")


class MaskCodingError(DataError):
    """Masks whose foreground cannot be derived from their values."""


@dataclass(frozen=True)
class Rule:
    """Which stored values are foreground.

    Attributes:
        kind: `greys` keeps grey values, foreground from 128 on; `small` the same for 16-bit files of 8-bit values;
            `nonzero`, `alpha`, or `values`, which are listed.
        ranges: first and last value of each range; for `values`.
        colours: as 0xRRGGBB; for `values`.
        inverted: whether the listed values are background.
    """

    kind: Literal["greys", "small", "nonzero", "alpha", "values"]
    ranges: tuple[tuple[int, int], ...] = ()
    colours: frozenset[int] = frozenset()
    inverted: bool = False

    @property
    def text(self) -> str:
        """The rule in words."""
        words = {"nonzero": "every value but 0", "alpha": "opaque pixels", "values": "the stated values"}
        return "foreground: " + words.get(self.kind, "the upper half of the range")


_GREYS, _SMALL, _NONZERO, _ALPHA = Rule("greys"), Rule("small"), Rule("nonzero"), Rule("alpha")


@dataclass(frozen=True)
class MaskCoding:
    """How the masks of a dataset are coded.

    Attributes:
        rules: for each kind of file that was found.
        stated: the rule for all files, stated by the user; None if it was found.
        found: one line for each kind of file: its values, and the rule.
    """

    rules: Mapping[Kind, Rule] = field(default_factory=dict)
    stated: Rule | None = None
    found: tuple[str, ...] = ()

    def text(self) -> str:
        """The coding on one line."""
        return "; ".join(self.found)


def find_coding(masks: Sequence[Path], stated: str = "auto", surveyed: int = SURVEYED) -> MaskCoding:
    """Finds the coding of a dataset's masks.

    Args:
        masks: all files of the dataset, sorted. Unreadable ones are ignored here.
        stated: `auto`, or the values of the foreground as the docstring of this module lists them.
        surveyed: number of masks to read, evenly spaced. All are read where these come out empty or full.

    Raises:
        MaskCodingError: the values are ambiguous, or all masks would come out empty or full.
    """
    rule = parse_mask_values(stated)
    contents = _contents(masks, surveyed)
    if rule is not None:
        return MaskCoding(stated=rule, found=(*_lines(contents, dict.fromkeys(_kinds(contents), rule)),))
    coding = _decided(contents, masks)
    if contents and _is_constant(contents, coding.rules):
        contents = _contents(masks, len(masks))
        coding = _decided(contents, masks)
        if _is_constant(contents, coding.rules):
            raise MaskCodingError(
                f"{_place(masks)}: all {len(contents)} masks would be only foreground or only background: "
                f"{_values(contents)}. Check the files, or state the foreground, such as --mask-values nonzero."
            )
    return coding


def read_mask(path: str | Path, coding: MaskCoding | None = None) -> Pixels:
    """Reads a mask as upright grey values.

    Args:
        path: the file.
        coding: of its dataset; by default it is found from this mask only.

    Shapes:
        returns: (H, W) uint8, foreground from 128 on.

    Raises:
        ImageReadError: the file is missing, empty, truncated, of 32 bits, or no supported image.
        MaskCodingError: its values are ambiguous, and the dataset had no file of its kind.
    """
    path = Path(path)
    with reading(path):
        opened = open_image(path)
        rule = None if coding is None else coding.stated or coding.rules.get(kind_of(opened))
        if rule is None:
            stored = stored_mask(opened)
            rule = _rule([examine(stored)], [path])
        mask = decode(opened, rule)
    if rule.kind == "greys" and mask.max() == 1 and coding is not None:
        raise MaskCodingError(
            f"{path}: the values are 0 and 1 in a dataset of {coding.text() or '0 to 255'}. Multiply them by 255."
        )
    return mask


def decode(opened: OpenImage, rule: Rule) -> Pixels:
    """An open mask as upright grey values, (H, W) uint8, foreground from 128 on."""
    if rule.kind == "greys":
        return greys(opened)
    stored = stored_mask(opened)
    if rule.kind == "small":
        return np.minimum(stored.values, 255).astype(np.uint8)
    if rule.kind == "alpha" and stored.kind == "alpha":
        return np.ascontiguousarray(stored.values[..., 3]).astype(np.uint8)
    foreground = _listed(stored, rule) if rule.kind == "values" else stored.not_black()
    return np.where(foreground, np.uint8(255), np.uint8(0))


def parse_mask_values(text: str) -> Rule | None:
    """The rule that a setting states; None for `auto`.

    Raises:
        MaskCodingError: it is none of the forms in the docstring of this module.
    """
    simple = {"auto": None, "nonzero": _NONZERO, "alpha": _ALPHA}
    if text in simple:
        return simple[text]
    ranges, colours = [], set()
    for part in text.removeprefix("not:").split(","):
        found = _VALUE.fullmatch(part.strip())
        if found is None:
            raise MaskCodingError(
                f"mask_values: '{text}', expected auto, nonzero, alpha, values such as 1,2,128..255, colours such as "
                f"ff0000, or not: before the values of the background."
            )
        if found[3]:
            colours.add(int(found[3], 16))
        else:
            ranges.append((int(found[1]), int(found[2] or found[1])))
    return Rule("values", tuple(ranges), frozenset(colours), text.startswith("not:"))


def _listed(stored: StoredMask, rule: Rule) -> NDArray[np.bool_]:
    """(H, W): where the values are listed; palette indices, greys, or the largest channel of a colour."""
    values = stored.values if stored.values.ndim == 2 else stored.colours.max(axis=2)
    chosen = np.zeros(values.shape, bool)
    for first, last in rule.ranges:
        chosen |= (values >= first) & (values <= last)
    if rule.colours:
        colours = stored.colours if stored.kind not in ("grey", "16-bit grey") else np.stack([values] * 3, -1)
        packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        chosen |= np.isin(packed, list(rule.colours))
    return chosen != rule.inverted


def _contents(masks: Sequence[Path], surveyed: int) -> list[MaskContent]:
    count = min(surveyed, len(masks))
    chosen = [masks[index * len(masks) // count] for index in range(count)]
    with ThreadPoolExecutor(4) as pool:
        return [content for content in pool.map(_content, chosen) if content is not None]


def _content(path: Path) -> MaskContent | None:
    try:
        with reading(path):
            return examine(stored_mask(open_image(path)))
    except DataError:  # reported by name where the pairs are read
        return None


def _decided(contents: Sequence[MaskContent], masks: Sequence[Path]) -> MaskCoding:
    kinds = _kinds(contents)
    rules: dict[Kind, Rule] = {kind: _rule([one for one in contents if one.kind == kind], masks) for kind in kinds}
    return MaskCoding(rules, None, (*_lines(contents, rules),))


def _rule(contents: Sequence[MaskContent], masks: Sequence[Path]) -> Rule:
    """The rule of the files of one kind.

    Raises:
        MaskCodingError: their values are ambiguous.
    """
    if any(one.content == "alpha" for one in contents):
        return _ALPHA
    if any(one.content == "colour" for one in contents):
        noise = 64 if contents[0].lossy else 0
        if any(_largest_channel(value) <= noise for one in contents for value in one.shares):
            return _NONZERO
        raise _ambiguous(contents, masks, "no colour is black")
    values = sorted({value for one in contents for value in one.shares})
    low, peak = values[0], values[-1]
    if contents[0].content == "16-bit grey" and peak > 255:
        if peak >= 1 << 15:
            return _GREYS
    elif peak >= 128:
        ids = [value for value in values if 0 < value <= _SMALL_ID]
        area = sum(one.shares.get(value, 0.0) for one in contents for value in ids) / len(contents)
        if low == 0 and area > _SOME and not any(_SMALL_ID < value < peak for value in values):
            raise _ambiguous(contents, masks, f"{peak} may be the foreground or mark pixels to ignore")
        return _SMALL if contents[0].content == "16-bit grey" else _GREYS
    elif peak == 0:
        return _GREYS
    if low == 0 and len(values) <= _FEW:
        return _NONZERO
    if low == peak:
        raise _ambiguous(contents, masks, "one value may be foreground or background")
    raise _ambiguous(contents, masks, "no value is 0" if low else "these are too many for class ids")


def _ambiguous(contents: Sequence[MaskContent], masks: Sequence[Path], reason: str) -> MaskCodingError:
    return MaskCodingError(
        f"{_place(masks)}: ambiguous masks: {_values(contents)}; {reason}. State the foreground: "
        f"--mask-values 128..255, nonzero or not:0,255 (train.py: --data.mask-values)."
    )


def _is_constant(contents: Sequence[MaskContent], rules: Mapping[Kind, Rule]) -> bool:
    """Whether all of these masks would be empty, or all full."""
    shares = [_foreground_share(one, rules[one.kind]) for one in contents]
    return all(share == 0 for share in shares) or all(share == 1 for share in shares)


def _foreground_share(content: MaskContent, rule: Rule) -> float:
    if content.content == "colour":
        noise = 64 if content.lossy else 0
        chosen = [share for value, share in content.shares.items() if _largest_channel(value) > noise]
    else:
        half = 1 << 15 if content.content == "16-bit grey" and rule.kind == "greys" else 128
        start = 1 if rule.kind == "nonzero" or content.content == "alpha" else half
        chosen = [share for value, share in content.shares.items() if value >= start]
    return 1.0 if len(chosen) == len(content.shares) else sum(chosen)


def _largest_channel(colour: int) -> int:
    return max(colour >> 16, colour >> 8 & 255, colour & 255)


def _kinds(contents: Sequence[MaskContent]) -> list[Kind]:
    return list(dict.fromkeys(one.kind for one in contents))


def _lines(contents: Sequence[MaskContent], rules: Mapping[Kind, Rule]) -> list[str]:
    of_kind = {kind: [one for one in contents if one.kind == kind] for kind in rules}
    return [f"{_values(of_kind[kind])}; {rule.text}" for kind, rule in rules.items()]


def _values(contents: Sequence[MaskContent]) -> str:
    """The kind of the files and their most frequent values."""
    totals: dict[int, float] = {}
    for one in contents:
        for value, share in one.shares.items():
            totals[value] = totals.get(value, 0.0) + share / len(contents)
    often = sorted(totals, key=lambda value: -totals[value])[:_SHOWN]
    colour = any(one.content == "colour" for one in contents)
    shown = [f"{f'{value:06x}' if colour else value} ({100 * totals[value]:.0f} %)" for value in sorted(often)]
    if contents and contents[0].content == "alpha":
        return "alpha, clear and opaque"
    rest = f" and {len(totals) - len(often)} more" if len(totals) > len(often) else ""
    return f"{contents[0].kind if contents else 'no'} values {', '.join(shown)}{rest}"


def _place(masks: Sequence[Path]) -> Path:
    return masks[0] if len(masks) == 1 else masks[0].parent
