"""Errors that a user can mend: one line each, no traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that the user can mend: the message names what was wrong, both values and the cure."""


def exit_on_user_error(main: Callable[[], int]) -> int:
    """Runs a script's `main` and turns a `UserError` into one line on standard error.

    Returns:
        What `main` returned, 2 after a `UserError`, 130 after Ctrl-C.
    """
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped. What is written is whole.", file=sys.stderr)
        return 130
