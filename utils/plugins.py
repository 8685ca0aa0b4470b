"""The user's own operations and encoders: Python files that are run before anything is built.

A file is run because the user names it, never because a checkpoint or a genotype does.
"""

import runpy
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError


class PluginError(UserError):
    """A file of the user's that is not there or fails."""


def run_files(files: Sequence[Path]) -> None:
    """Runs Python files, which register their operations with `net.operations.operation`.

    Raises:
        PluginError: naming the file and what went wrong in it.
    """
    for file in files:
        if not file.is_file():
            raise PluginError(f"operations file {file}: no such file. Give the path of a Python file.")
        try:
            runpy.run_path(str(file))
        except Exception as error:
            raise PluginError(
                f"operations file {file}: {type(error).__name__}: {error}. Mend it, then go on."
            ) from error
