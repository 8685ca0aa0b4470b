"""Command line and YAML files: one parser for all programs, built on jsonargparse.

`parse` reads settings into a frozen, typed dataclass; `arguments` returns a parser for programs that list their
options. Both show options with dashes and accept the underscores of earlier releases. Every mistake is one line on
standard error and exit code 2.
"""

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from settings.limits import in_group, limit_of
from settings.paths import hint
from utils.errors import UserError, one_line

Config = TypeVar("Config")
FORMER_IMAGES = "pictures"
"""Key of `images` in settings and checkpoints of earlier releases; every reader takes it from here."""
RENAMED = {"operations": "plugins", FORMER_IMAGES: "images", f"data.{FORMER_IMAGES}": "data.images"}
"""Options and keys of earlier releases -> their name of today, for programs that have an option of that name."""
MOST_BYTES, MOST_LEVELS = 1 << 20, 20  # of a YAML file
# A value that is no YAML is text. Names of files may hold bytes that are no UTF-8, which YAML cannot read.
set_loader("yaml", get_loader("yaml"), exceptions=(yaml.YAMLError, UnicodeError))


class ConfigError(UserError):
    """A settings file or an argument that can't be read."""


class Parser(ArgumentParser):
    """A parser with argparse's methods. `type=Annotated[int, Limit(1, 64)]` also checks the range of a number."""

    def __init__(self, *args: Any, renamed: Mapping[str, str] = RENAMED, **kwargs: Any) -> None:
        self.renamed = renamed
        super().__init__(*args, allow_abbrev=False, print_config="--print-config", **kwargs)

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # further arguments go by keyword
        self, args: Sequence[str] | None = None, namespace: Any = None, **kwargs: Any
    ) -> Any:
        """As argparse's; exits with code 2 and one line on a mistake."""
        for action in self._actions:
            action.option_strings = [_dashed(name) for name in action.option_strings]
            action.metavar = "ITEM ..." if _takes_list(action) else action.metavar
            self._option_string_actions.update(dict.fromkeys(action.option_strings, action))
        words = self._with_dashes(sys.argv[1:] if args is None else args)
        try:
            options = super().parse_args(list(self._expanded(words)), namespace, **kwargs)
        except UserError as error:
            self.error(str(error))
        for action in self._actions:
            limit, value = limit_of(getattr(action, "_typehint", None)), options.get(action.dest)
            if limit is not None and value is not None and (problem := limit.problem(value)):
                self.error(f"--{_dashed(action.dest)}: {problem}")
        return options

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints one line and exits with code 2."""
        sys.stderr.write(f"error: {one_line(_readable(message) + self._nearest(message))}\n")
        raise SystemExit(2)

    def _with_dashes(self, words: Sequence[str]) -> list[str]:
        """The words with every known option under its name of today; values stay as they are."""
        renamed: dict[str, str] = {}
        result = list(words)
        former = {f"--{_dashed(old)}": f"--{_dashed(new)}" for old, new in self.renamed.items()}
        for place, word in enumerate(words[: words.index("--") if "--" in words else None]):
            name, equals, value = word.partition("=")
            dashed = _dashed(name)
            today = dashed if dashed in self._option_string_actions else former.get(dashed, dashed)
            if name.startswith("--") and name != today and today in self._option_string_actions:
                renamed[name] = today
                result[place] = today + equals + value
        if renamed and os.environ.get("RANK", "0") == "0":
            old, new = next(iter(renamed.items()))
            sys.stderr.write(f"notice: {old} is now written {new}. The next release will not accept the old name.\n")
        return result

    def _expanded(self, words: Sequence[str]) -> Iterator[str]:
        """The words, with `--config FILE` replaced by the settings in it and lists written as one word."""
        rest = iter(range(len(words)))
        for place in rest:
            name, equals, value = words[place].partition("=")
            action = self._option_string_actions.get(name)
            following = _values(words[place + 1 :])
            if name == "--config" and (equals or following):
                yield from map(self._listed, self._settings(Path(value if equals else following[0])))
                following = [] if equals else following[:1]
            elif not equals and following and _takes_list(action) and following[0][:1] not in ("[", "{"):
                yield f"{name}={json.dumps(following)}"
            elif not equals and not following and getattr(action, "_typehint", None) is bool:
                yield f"{name}=true"
            else:
                yield self._listed(words[place])
                continue
            for _ in following:
                next(rest)

    def _listed(self, word: str) -> str:
        """`--list=value` with the value as a list of one, which jsonargparse would read as a file of values."""
        name, _, value = word.partition("=")
        alone = value and value[0] not in "[{" and _takes_list(self._option_string_actions.get(name))
        return f"{name}={json.dumps([value])}" if alone and value != "null" else word

    def _settings(self, path: Path) -> Iterator[str]:
        known = {action.dest for action in self._actions} - {"help", "config", "print_config"}
        former = {old: new for old, new in self.renamed.items() if new in known and old not in known}
        for key, value in read_yaml(path, known | former.keys()):
            yield f"--{_dashed(former.get(key, key))}={value}"

    def _nearest(self, message: str) -> str:
        found = re.match(r"unrecognized arguments: --([^\s=]+)", message)
        known = [name.removeprefix("--") for name in self._option_string_actions if "_" not in name]
        return _suggestion(_dashed(found[1]), known, "--") if found else ""


def arguments(doc: str | None, program: str | None = None) -> Parser:
    """A parser with argparse's methods, for programs that list their options.

    Args:
        doc: docstring of the module: its first line heads the help, the rest ends it.
        program: how the program is started, such as `python -m data.check`; by default its file name.
    """
    heading, _, rest = (doc or "").partition("\n")
    return Parser(program, description=heading, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(
    kind: type[Config], description: str, arguments: Sequence[str] | None = None,
    commands: Mapping[str, type[Any]] | None = None, program: str | None = None, renamed: Mapping[str, str] = RENAMED,
) -> Any:  # fmt: skip
    """Reads settings: defaults of the dataclass, then `--config FILE.yaml`, then the command line.

    Args:
        kind: a dataclass, nested ones included; `--data.root DIR` sets field `root` of field `data`.
        description: first line of the help.
        arguments: instead of the program's own.
        commands: subcommands, each with its own dataclass, whose docstring heads its help.
        program: name of the program in the help.
        renamed: old options and keys -> their names of today.

    Returns:
        An instance of `kind`, or of the dataclass of the subcommand that was given first.

    Raises:
        SettingError: if a value contradicts another; the key is that of the command line.
        SystemExit: with code 2 and one line on an unknown key, a wrong type, a number out of range or a missing file.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    program = program or Path(sys.argv[0]).name
    if commands and words and words[0] in commands:
        command = commands[words[0]]
        return parse(
            command, (command.__doc__ or "").partition("\n")[0], words[1:], None, f"{program} {words[0]}", renamed
        )
    epilog = "".join(f"`{program} {name} --help` lists the options of {name}. " for name in commands or ())
    parser = Parser(program, description=description, epilog=epilog, renamed=renamed)
    parser.add_argument("--config", action="config", help="YAML file of settings; later arguments override it")
    parser.add_class_arguments(kind)
    return _build(kind, parser.parse_args(words))


def read_yaml(path: Path, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Reads a YAML file of settings: dotted keys with underscores, values as YAML on one line.

    Raises:
        ConfigError: if it is missing, is no mapping in UTF-8, uses aliases, repeats a key, or has a key that is not
            among the known ones.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes are no settings file. Give a YAML file.")
        text = path.read_text(encoding="utf-8")
        level = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or level > MOST_LEVELS:
                raise ConfigError(
                    f"{path}: aliases and more than {MOST_LEVELS} levels are not supported. Write it out."
                )
        node = yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text. Save the YAML file as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}). Give the path of a YAML file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{path}: no valid YAML ({problem}{place}). Correct the file.") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}: expected a mapping of settings, such as `epochs: 48`.")
    yield from _leaves(node, "", path, known) if node is not None else ()


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries of plain values, tuples as lists: what YAML, JSON and checkpoints hold."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a dataclass, got {type(config).__name__}")
    return _plain(asdict(config))


def named_folders(values: Sequence[str], option: str) -> dict[str, Path]:
    """Reads `NAME=DIR` words in their order.

    Args:
        values: the words.
        option: the option that they were given to, for the error.

    Raises:
        UserError: for a word that is not NAME=DIR, a name that no file can have or that is repeated, or a folder that
            does not exist.
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
            raise UserError(f"{option} {value}: there is no folder {folder}. {hint(Path(folder))}")
        named[name] = Path(folder)
    return named


def _leaves(node: yaml.MappingNode, prefix: str, path: Path, known: Collection[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for name, value in node.value:
        key = prefix + str(name.value).replace("-", "_")
        group = any(other.startswith(f"{key}.") for other in known)
        if key in seen or not (group or key in known):
            problem = "is given twice. Leave one out." if key in seen else f"is unknown.{_suggestion(key, known)}"
            raise ConfigError(f"{path}: the key '{key}' {problem}")
        seen.add(key)
        if isinstance(value, yaml.MappingNode) and group:
            yield from _leaves(value, f"{key}.", path, known)
        elif isinstance(value, yaml.ScalarNode):
            yield key, value.value
        else:
            value.flow_style = True
            yield key, yaml.serialize(value, width=MOST_BYTES).strip()


def _build(kind: type[Config], values: Namespace) -> Config:
    """The dataclass of parsed values; errors get the full key."""
    hints = get_type_hints(kind)
    parts: dict[str, Any] = {}
    for each in fields(kind):  # pyright: ignore[reportArgumentType]
        hint, value = hints[each.name], values[each.name]
        with in_group(each.name):
            parts[each.name] = _value(hint, value)
    return kind(**parts)


def _value(hint: Any, value: Any) -> Any:
    """A dataclass, or a list of them, from what the parser holds in its place."""
    if isinstance(value, list):
        (item, *_) = get_args(hint) or (Any,)
        return [_value(item, each) for each in value]
    return _build(hint, value) if isinstance(hint, type) and isinstance(value, Namespace) else value


def _values(words: Sequence[str]) -> list[str]:
    """The words up to the next option."""
    end = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return list(words[:end])


def _takes_list(action: argparse.Action | None) -> bool:
    hint = str(getattr(action, "_typehint", None)).removeprefix("typing.Annotated[")
    return action is not None and action.nargs is None and hint.startswith(("list[", "tuple["))


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _suggestion(name: str, known: Iterable[str], lead: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f" Did you mean {lead}{near[0]}?" if near else " `--help` lists them all."


def _readable(message: str) -> str:
    """A message of jsonargparse in the words of the command line."""
    line = re.sub(r"<class '([\w.]*?)(\w+)'>|typing\.", r"\2", " ".join(message.split()))
    line = re.sub(
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors:.*Given value: (.*)",
        lambda found: f"Expected a {found[1].replace(', NoneType', ' or null')}. Got value: {found[2]}", line,
    )  # fmt: skip
    line = re.sub(r"Expected an? (.*)\. Got value: ", r"expected \1, got ", line)
    line = re.sub(r'Parser key "([\w.]+)":', lambda found: f"--{_dashed(found[1])}:", line)
    required, colon, keys = line.partition("the following arguments are required: ")
    return f"{required}required: --{_dashed(keys.replace(', ', ', --'))}" if colon else line


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
