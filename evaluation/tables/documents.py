"""Tables in Markdown documents, written from committed CSV files between two markers.

    <!-- table docs/peers.csv columns=part,method,max_F brief -->
    ...
    <!-- end -->

`columns` selects columns (`_` means a space), `brief` drops a bracket at the end of a cell, `left=2`
aligns two columns to the left. A marker with a name that does not end in `.csv` belongs to another command.
`python -m evaluation.tables` checks all documents, or writes them anew.
"""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from evaluation.tables.writer import Table, markdown
from utils.errors import UserError

_PLACE = re.compile(r"(?P<begin><!-- table (?P<name>\S+)(?P<words>[^\n]*?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_BRACKETS = re.compile(r" \([^()]*\)$")
PATTERNS = ("*.md", "docs/**/*.md", "weights/*.md", "benchmarks/**/*.md", "web/*.md")


class DocumentError(UserError):
    """A marker that names no table."""


def documents(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Every document with markers: its path, its text, and its text with the tables written anew.

    Raises:
        DocumentError: a CSV file is missing or malformed, or a column is unknown.
    """
    for path in sorted({path for pattern in PATTERNS for path in root.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        if "<!-- table " in text:
            yield path, text, filled(text, lambda name, words, path=path: _from_csv(root, path, name, words))


def filled(text: str, table: Callable[[str, list[str]], str | None]) -> str:
    """The text with what `table(name, words)` gives between every pair of markers; None leaves a place as it is."""

    def place(found: re.Match[str]) -> str:
        content = table(found["name"], found["words"].split())
        return found[0] if content is None else f"{found['begin']}\n{content}\n\n{found['end']}"

    return _PLACE.sub(place, text)


def _from_csv(root: Path, document: Path, name: str, words: list[str]) -> str | None:
    if not name.endswith(".csv"):
        return None
    options = {key: value for key, _, value in (word.partition("=") for word in words)}
    try:
        with (root / name).open(encoding="utf-8", newline="") as file:
            heads, *rows = csv.reader(file)
        wanted = [head.replace("_", " ") for head in options.get("columns", "").split(",") if head] or heads
        places = [heads.index(head) for head in wanted]
        chosen = [[row[place] for place in places] for row in rows]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DocumentError(
            f"{document}: the table {name} can't be written ({error}). Mend the marker or the CSV."
        ) from None
    if "brief" in options:
        chosen = [[_BRACKETS.sub("", cell) for cell in row] for row in chosen]
    return markdown(Table(wanted, chosen, int(options.get("left", 1))))
