"""Command line and YAML -> one frozen, typed dataclass."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

Config = TypeVar("Config")


def parse(kind: type[Config], description: str, arguments: Sequence[str] | None = None) -> Config:
    """Reads settings: defaults of the dataclass, then `--config FILE.yaml`, then the command line.

    Args:
        kind: a dataclass, nested ones included; `--data.root DIR` sets field `root` of field `data`.
        description: what `--help` says first.
        arguments: instead of the program's own.

    Exits with code 2 and one line that names the key on an unknown key, a wrong type or a missing file.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file of settings; later arguments override it")
    parser.add_class_arguments(kind)
    values = dict(vars(parser.instantiate(parser.parse_args(arguments))))
    values.pop("config")
    return kind(**values)


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries of plain values, tuples as lists: what YAML, JSON and checkpoints hold."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a dataclass, got {type(config).__name__}")
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
