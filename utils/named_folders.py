"""`NAME=DIR` arguments of the command line."""

from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError


def named_folders(values: Sequence[str], option: str) -> dict[str, Path]:
    """Reads `NAME=DIR` words in their order.

    Args:
        values: the words.
        option: the option that they were given to, for the error.

    Raises:
        UserError: a word that is not NAME=DIR, a name that no file can have or that comes twice, no such
            folder.
    """
    named: dict[str, Path] = {}
    for value in values:
        name, _, folder = value.partition("=")
        if not name or not folder:
            raise UserError(f"{option} {value}: give NAME=DIR, such as {option} ECSSD=/data/ECSSD.")
        if "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"{option} {value}: the name {name!r} becomes a file name; leave out / and a leading dot.")
        if name in named:
            raise UserError(f"{option} {value}: the name {name!r} is given twice ({named[name]}). Rename one.")
        if not Path(folder).is_dir():
            raise UserError(f"{option} {value}: there is no folder {folder}.")
        named[name] = Path(folder)
    return named
