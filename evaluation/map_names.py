"""Names of maps against names of masks: equal, or with one common prefix or suffix, such as `0001_HS`."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from utils.errors import UserError

PLACE = "{name}"
LISTED = 10  # names listed in a message before the rest is counted


class MapNameError(UserError):
    """Maps whose names do not fit those of the masks."""


def shown(name: str) -> str:
    """A name as text that every file, page and console can hold: other characters and backslashes are escaped.

    Different names stay different.
    """
    return "".join(c if c.isprintable() and c != "\\" else ("\\\\" if c == "\\" else ascii(c)[1:-1]) for c in name)


def match(names: Collection[str], maps: Mapping[str, Path], pattern: str | None = None) -> dict[str, Path]:
    """The map of every mask.

    Args:
        names: of the masks, POSIX paths without suffix.
        maps: name -> file.
        pattern: how a map is named, with `{name}` for the last part of the mask's name; None: found out.

    Raises:
        MapNameError: masks without a map, maps without a mask, several patterns that fit, or a pattern without
            `{name}`.
    """
    if pattern is not None and pattern.count(PLACE) != 1:
        raise MapNameError(f"--map-pattern '{pattern}': must contain {PLACE} once, such as '{PLACE}_HS'.")
    wanted = _wanted(names, pattern or PLACE)
    if wanted.keys() == maps.keys():
        return {wanted[name]: path for name, path in maps.items()}
    fitting = [found for found in _patterns(names, maps) if _wanted(names, found).keys() == maps.keys()]
    if pattern is None and len(fitting) == 1:
        wanted = _wanted(names, fitting[0])
        return {wanted[name]: path for name, path in maps.items()}
    if pattern is None and fitting:
        choices = " and ".join(f"'{found}'" for found in sorted(fitting)[:LISTED])
        raise MapNameError(f"the names of the maps fit {choices}. State one by --map-pattern.")
    raise MapNameError(_problem(names, maps, pattern))


def listing(kind: str, which: Iterable[str]) -> str:
    """`3 missing maps: a, b, c`: counted, the first ones named."""
    which = list(which)
    rest = f" and {len(which) - LISTED} more" if len(which) > LISTED else ""
    return f"{len(which)} {kind}{'s' if len(which) != 1 else ''}: {', '.join(map(shown, which[:LISTED]))}{rest}"


def _wanted(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Name of a map -> name of its mask. Two ways to write one accented letter are equal."""
    wanted = {}
    for name in names:
        path = PurePosixPath(name)
        wanted[normal(str(path.with_name(pattern.replace(PLACE, path.name))))] = name
    return wanted


def normal(name: str) -> str:
    """The name in Unicode's composed form (NFC): macOS writes decomposed names."""
    return unicodedata.normalize("NFC", name)


def _patterns(names: Collection[str], maps: Mapping[str, Path]) -> set[str]:
    """The patterns by which any of the maps may belong to the first mask."""
    path = PurePosixPath(min(names))
    found = set()
    for other in map(PurePosixPath, maps):
        if other.parent != path.parent:
            continue
        start = other.name.find(path.name)
        while start >= 0:
            found.add(other.name[:start] + PLACE + other.name[start + len(path.name) :])
            start = other.name.find(path.name, start + 1)
    return found


def _problem(names: Collection[str], maps: Mapping[str, Path], pattern: str | None) -> str:
    """What is missing and what is left over; and the pattern that would fit most maps, if it fits half of them."""
    wanted = _wanted(names, pattern or PLACE)
    missing = [mask for name, mask in wanted.items() if name not in maps]
    extra = [name for name in maps if name not in wanted]
    told = [listing(kind, which) for kind, which in (("missing map", missing), ("extra map", extra)) if which]
    hint = "Give the folder that holds exactly the maps of this benchmark."
    patterns = {found: len(_wanted(names, found).keys() & maps.keys()) for found in _patterns(names, maps)}
    best = max(patterns, key=lambda found: patterns[found], default=PLACE)
    if best not in (PLACE, pattern) and patterns[best] * 2 > len(maps):
        hint = f"{patterns[best]} maps fit --map-pattern '{shown(best)}'."
    return f"{len(maps)} maps for {len(names)} masks; {'; '.join(told)}. {hint}"
