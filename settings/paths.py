"""What to do about a path that is not there."""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path


def hint(path: Path) -> str:
    """A sentence about a path that is not there: what is alike where it should be, or which part of it is missing.

    Args:
        path: as the user gave it; a file where a folder should be is told as well.
    """
    if path.exists():
        return "It is a file. Give a folder."
    place = path.absolute()
    while not place.parent.is_dir():
        place = place.parent
    names: list[str] = []
    with suppress(OSError):
        names = [entry.name for entry in place.parent.iterdir()]
    alike = get_close_matches(place.name, names, 1)
    if alike:
        return f"Did you mean {place.with_name(alike[0])}?"
    return f"Check the path: {place.parent} has no {place.name}."
