"""Checks that every table in a document is what its CSV file gives, or writes the tables.

python -m evaluation.tables           exit code 1 where a table differs
python -m evaluation.tables --write   writes them
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.tables.documents import documents
from settings.parser import arguments
from utils.errors import exit_on_user_error
from utils.files import replace_text


def main(words: Sequence[str] | None = None) -> int:
    """Names the documents that differ; 1 if there are any and they are not written."""
    parser = arguments(__doc__, "python -m evaluation.tables")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the project")
    parser.add_argument("--write", action="store_true", help="write the tables instead of checking them")
    options = parser.parse_args(words)
    different = [(path, new) for path, old, new in documents(options.root) if old != new]
    for path, text in different:
        if options.write:
            replace_text(path, text)
        print(
            f"{path}: {'written' if options.write else 'differs from its CSV; run python -m evaluation.tables --write'}"
        )
    return 1 if different and not options.write else 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
