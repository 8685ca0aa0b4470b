"""Errors that a user can fix: one line each, no traceback."""

import sys
from collections.abc import Callable

LONGEST = 290  # characters of a message, so that "error: " and the message stay below 300


class UserError(Exception):
    """An error that the user can fix: the message names what was wrong, both values and the cure."""


def one_line(text: str) -> str:
    """The text on one line of printable characters; where it is too long, its middle is left out."""
    line = " ".join(printable(text, keep_spaces=True).split())
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def printable(text: str, keep_spaces: bool = False) -> str:
    """The text with control characters and bytes that are no UTF-8 escaped, such as the names of files may hold."""
    return "".join(c if c.isprintable() or (keep_spaces and c.isspace()) else ascii(c)[1:-1] for c in text)


def exit_on_user_error(main: Callable[[], int]) -> int:
    """Runs a program's `main` and turns a `UserError` into one line on standard error.

    Returns:
        What `main` returned, 2 after a `UserError`, 130 after Ctrl-C.
    """
    try:
        return main()
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped. What is written is whole.", file=sys.stderr)
        return 130
