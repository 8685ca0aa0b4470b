"""Whether a run may resume with the settings of this call: saved settings brought up to date and compared.

Settings are compared as plain values, nested in dictionaries. Files are compared by name only, so that a moved folder
resumes and that saved weights name no folder of the machine that made them.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, get_type_hints

from settings.parser import to_plain
from training.checkpoints import StateError

PATHS = frozenset({
    "root", "list_file", "genotype", "encoder_weights", "init", "operations", "plugins", "table", "out", "config",
    "maps", "trainings",
})  # fmt: skip
"""Settings that may hold the path of a file, at any depth."""


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with only the name of every file and folder: what weights and checkpoints may hold."""
    return {name: _portable(name, value) for name, value in settings.items()}


def _portable(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return portable(value)
    if name not in PATHS:
        return value
    if isinstance(value, list):
        return [_portable(name, item) for item in value]
    return PurePath(value.replace("\\", "/")).name if isinstance(value, str) else value


def defaults(kind: type) -> dict[str, Any]:
    """Plain default values of a dataclass of settings, nested ones included; a setting without one is left out."""
    hints, found = get_type_hints(kind), {}
    for setting in fields(kind):
        if setting.default is not MISSING:
            found[setting.name] = setting.default
        elif setting.default_factory is not MISSING:
            found[setting.name] = setting.default_factory()
        elif is_dataclass(hints[setting.name]):
            found[setting.name] = defaults(hints[setting.name])
    return {name: to_plain(value) if is_dataclass(value) else _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, dict | str | int | float | bool | None) else str(value)


def completed(saved: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Saved settings with the default of every setting that did not exist yet when they were saved."""
    found = {**default, **saved}
    for name, value in default.items():
        if isinstance(value, dict) and isinstance(saved.get(name), dict):
            found[name] = completed(saved[name], value)
    return found


def renamed(saved: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Saved settings with former names replaced.

    Args:
        saved: nested in dictionaries.
        names: dotted former name -> dotted present name, both in the same group.
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in saved.items()}
    for former, present in names.items():
        group, _, old = former.rpartition(".")
        place = result.get(group, {}) if group else result
        if isinstance(place, dict) and old in place:
            place[present.rpartition(".")[2]] = place.pop(old)
    return result


def check_same(before: Any, now: Any, free: Iterable[str] = (), key: str = "") -> None:
    """Refuses to resume with settings that matter and have changed.

    Args:
        before: plain values of the run that resumes, nested in dictionaries.
        now: those of this call.
        free: dotted keys that may change, since they have no effect on the weights.
        key: of these values, for the message.

    Raises:
        StateError: naming the key and both values.
    """
    if key in free:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            check_same(before.get(name), now.get(name), free, f"{key}.{name}" if key else name)
    elif before != now:
        raise StateError(
            f"{key}: the run in --out was started with {_short(before)}, now it is {_short(now)}. Give the same value "
            f"to resume, or another --out to start anew."
        )


def contents(files: Sequence[Path]) -> list[str]:
    """16 hexadecimal digits for the content of each file."""
    return [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
