"""The user's own parts: Python files given by `--plugins`, which register operations, loss terms, encoders, measures.

    @operation("conv_1x1")      net.operations    @loss_term("dice")          net.losses
    @encoder("tiny")            net.encoder       @measure("iou")             evaluation.measures

A file runs because the user names it, never because a checkpoint or a genotype does. examples/ has one of each.
"""

import runpy
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from utils.errors import UserError

Part = TypeVar("Part", bound=Callable)


class PluginError(UserError):
    """A file of the user's that is missing or fails."""


class Registry(Generic[Part]):
    """Parts of one kind by name.

    Args:
        kind: such as "operation", for errors.
        error: class of its errors.

    Attributes:
        parts: name -> part and where it comes from.
    """

    def __init__(self, kind: str, error: type[UserError]) -> None:
        self.kind, self.error = kind, error
        self.parts: dict[str, tuple[Part, str]] = {}

    def register(self, name: str, source: str = "user") -> Callable[[Part], Part]:
        """A decorator that registers a part under a name.

        Raises:
            UserError: if the name belongs to another part. A file that runs twice registers the same part again.
        """

        def add(part: Part) -> Part:
            known, owner = self.parts.get(name, (part, source))
            if (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
                raise self.error(
                    f"{self.kind} '{name}' is registered already (by {owner}), so {source} can't take that name. "
                    f"Choose another."
                )
            self.parts[name] = (part, source)
            return part

        return add

    def names(self) -> tuple[str, ...]:
        """All registered names, in the order of their registration."""
        return tuple(self.parts)

    def find(self, name: str) -> Part:
        """The part of that name.

        Raises:
            UserError: if there is none, with the names that there are.
        """
        if name not in self.parts:
            raise self.error(
                f"{self.kind} '{name}' is not registered. Registered: {', '.join(self.names()) or 'none'}. Register it "
                f"in a file given by --plugins."
            )
        return self.parts[name][0]


def run_files(files: Sequence[Path]) -> None:
    """Runs Python files, which register their parts.

    Raises:
        PluginError: naming the file, the line and the cure.
    """
    for file in files:
        try:
            file.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
            raise PluginError(f"plugin {file}: {reason}. Give the path of a Python file.") from None
        try:
            runpy.run_path(str(file), run_name=str(file.resolve()))
        except UserError as error:
            raise PluginError(f"plugin {file}: {error}") from error
        except (Exception, SystemExit) as error:
            raise PluginError(f"plugin {file}{_line(error, file)}: {_problem(error)}") from error


def _line(error: BaseException, file: Path) -> str:
    """The line of the user's file where it failed, as text, or nothing."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""


def _problem(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        return f"{text}. Install it with pip, or put it beside the program."
    if isinstance(error, SystemExit):
        return "it ends the program (SystemExit). Remove the call of exit."
    return f"{text}. Correct that line, then run again."
