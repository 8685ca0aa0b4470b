"""Errors that a user can fix: one line each, no traceback."""

import gc
import io
import os
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


def say(text: str) -> None:
    """Prints a line at once. Where standard output was closed, as by `| head -1`, the program runs on without it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard_output()


def exit_on_user_error(main: Callable[[], int]) -> int:
    """Runs a program's `main` and turns a `UserError` into one line on standard error.

    The process should end afterwards. A character that the console cannot show is escaped. A closed standard output
    ends the program silently.

    Returns:
        What `main` returned, 2 after a `UserError` or an error of the file system, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
        return 1
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {one_line(f'{place}{error.strerror or error}')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped. What is written is whole.", file=sys.stderr)
        return 130
    finally:
        gc.freeze()  # else Python searches all objects of PyTorch for cycles before it ends: .4 s


def _discard_output() -> None:
    """What is written to standard output from here on is lost, and no error at the end of the program."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
