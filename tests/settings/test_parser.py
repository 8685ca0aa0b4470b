"""One parser for all programs: dashes, one-line errors, YAML files, ranges; and `NAME=DIR` words."""

import argparse
import importlib
import subprocess
import sys
import time
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import pytest

from settings.limits import Count, Limit, SettingError, Share, Workers, check_limits, limit_of
from settings.parser import arguments, named_folders, parse, to_plain
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Optim:
    """The optimizer.

    Attributes:
        lr: learning rate.
        warm_up: share of the run.
        two_rates: both rates.
    """

    lr: Annotated[float, Limit(above=0)] = 0.1
    warm_up: Share = 0.0
    two_rates: Annotated[tuple[float, float], Limit(above=0)] = (1.0, 2.0)

    def __post_init__(self):
        check_limits(self)
        if self.two_rates[0] > self.two_rates[1]:
            raise SettingError("two_rates", "the first is above the second.")


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        root: data.
        optim: the optimizer.
        some_files: files.
        encoder_weights: a name.
        kind: one of two.
        limit: optional.
        epochs: number.
    """

    root: Path
    optim: Optim = field(default_factory=Optim)
    some_files: list[Path] = field(default_factory=list)
    encoder_weights: str = "none"
    kind: Literal["a_b", "c"] = "c"
    limit: int | None = None
    epochs: Count = 3

    def __post_init__(self):
        check_limits(self)


@dataclass(frozen=True)
class Compare:
    """Compares runs.

    Attributes:
        seeds: of each.
    """

    seeds: list[int] = field(default_factory=lambda: [0])


def read(*words):
    return parse(Settings, "Test.", list(words))


def refused(capsys, *words, parser=read):
    with pytest.raises(SystemExit) as caught:
        parser(*words)
    text = capsys.readouterr().err
    assert caught.value.code == 2 and text.count("\n") == 1 and text.startswith("error: ") and len(text) <= 301
    return text


def test_dashes_are_the_spelling_and_values_stay(capsys):
    settings = read("--root", "a_b", "--encoder-weights", "my_file", "--optim.warm-up=0.5", "--kind", "a_b")
    assert (settings.root, settings.encoder_weights, settings.kind) == (Path("a_b"), "my_file", "a_b")
    assert settings.optim.warm_up == 0.5 and capsys.readouterr().err == ""


def test_underscores_of_earlier_releases_are_read_with_one_notice(capsys):
    settings = read("--root", "x", "--encoder_weights", "my_file", "--optim.warm_up=0.5")
    assert settings.encoder_weights == "my_file" and settings.optim.warm_up == 0.5
    assert capsys.readouterr().err.splitlines() == [
        "notice: --encoder_weights is now written --encoder-weights. The next release will not accept the old name."
    ]


def test_lists_are_words(tmp_path):
    file = tmp_path / "a_file.py"
    file.write_text("not_a_list")
    assert read("--root", "x", "--some-files", str(file), "b.py", "--epochs", "4").some_files == [file, Path("b.py")]
    assert read("--root", "x", "--some-files", '["c d.py"]').some_files == [Path("c d.py")]
    assert read("--root", "x", f"--some-files={file}").some_files == [file], "the file itself, not a list in it"
    settings = yaml_file(tmp_path, f"root: x\nsome-files: {file}\n")
    assert read("--config", str(settings)).some_files == [file]
    assert read("--root", "x", "--optim.two-rates", "3", "4").optim.two_rates == (3.0, 4.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "error: required: --root\n"),
        (["--root", "x", "--optim.lr", "fast"], "error: --optim.lr: expected float, got fast\n"),
        (["--root", "x", "--kind", "q"], "error: --kind: expected Literal['a_b', 'c'], got q\n"),
        (["--root", "x", "--limit", "2.5"], "error: --limit: expected int or null, got 2.5\n"),
        (["--root", "x", "--optim.lrr", "3"], "Did you mean --optim.lr?"),
        (["--root", "x", "--qqqqqq"], "`--help` lists them all."),
        (["--root", "x", "--encoder", "q"], "Did you mean --encoder-weights?"),
        (["--root", "x", "--config", "absent.yaml"], "absent.yaml: can't be read (No such file or directory)"),
        (["--root", "x", "--kind", "q" * 3000], " ... "),
    ],
)
def test_mistakes_are_one_line(capsys, words, told):
    assert told in refused(capsys, *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--optim.lr", "0"], "--optim.lr: 0.0, expected a number above 0."),
        (["--optim.lr", ".nan"], "--optim.lr: nan, expected a number above 0."),
        (["--optim.two-rates", "1", "-1"], "--optim.two-rates: (1.0, -1.0), expected a number above 0."),
        (["--optim.warm-up", "1.5"], "--optim.warm-up: 1.5, expected a number from 0 up to 1."),
        (["--epochs", "1000000000"], "--epochs: 1000000000, expected a number from 1 up to 10000000."),
    ],
)
def test_numbers_out_of_range_name_the_key_of_the_program(capsys, words, told):
    assert refused(capsys, "--root", "x", *words) == f"error: {told}\n"


def test_settings_that_contradict_each_other_name_the_key_of_the_program():
    with pytest.raises(SettingError) as caught:
        read("--root", "x", "--optim.two-rates", "2", "1")
    assert str(caught.value) == "optim.two_rates: the first is above the second."


def test_a_dataclass_alone_names_its_field():
    with pytest.raises(SettingError, match="^lr: -1"):
        Optim(lr=-1)


def yaml_file(folder, content):
    path = folder / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_yaml_keys_have_dashes_or_underscores_and_later_words_win(tmp_path):
    path = yaml_file(
        tmp_path,
        "root: a_b\noptim:\n  warm-up: .5\n  two_rates: [1e-3, 2]\nsome-files: [a.py, 'b c.py']\nlimit: null\n",
    )
    settings = read("--config", str(path), "--epochs", "9", "--optim.warm-up", "0.25")
    assert settings == Settings(
        Path("a_b"), Optim(0.1, 0.25, (0.001, 2.0)), [Path("a.py"), Path("b c.py")], epochs=9
    )  # fmt: skip
    assert read("--epochs", "9", f"--config={path}").epochs == 9
    assert read("--optim.warm-up", "0.25", f"--config={path}").optim.warm_up == 0.5
    assert read("--config", str(yaml_file(tmp_path, "root: x\noptim: {}"))) == read("--root", "x")


def test_saved_settings_are_read_back(tmp_path):
    import json

    settings = read("--root", "x", "--optim.lr", "1e-5", "--some-files", "a")
    path = yaml_file(tmp_path, json.dumps(to_plain(settings)))
    assert read("--config", str(path)) == settings


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("root: x\noptim:\n  lrr: 3\n", "settings.yaml: the key 'optim.lrr' is unknown. Did you mean optim.lr?"),
        ("root: x\nconfig: {}\n", "the key 'config' is unknown"),
        ("root: x\noptim: {lr: {}}\n", "--optim.lr: expected float, got {}"),
        ("root: x\nconfig: other.yaml\n", "the key 'config' is unknown"),
        ("root: x\nroot: y\n", "the key 'root' is given twice"),
        ("- 1\n", "expected a mapping of settings"),
        ("root: [", "no valid YAML"),
        ("root: x\n\x00", "no valid YAML"),
        (b"root: \xff\xfe\xe4", "is not UTF-8 text"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nroot: [*b, *b]\n", "aliases"),
        ("root: " + "[" * 100_000, "levels are not supported"),
        ("root: x\noptim: 5\n", "--optim"),
        ("root: x\nkind: " + "q" * 3000, " ... "),
    ],
)
def test_broken_files_are_one_line(capsys, tmp_path, content, told):
    path = yaml_file(tmp_path, content)
    begin = time.perf_counter()
    assert told in refused(capsys, "--config", str(path))
    assert time.perf_counter() - begin < 30, "seconds; what it claims to be would take hours"


def test_a_subcommand_has_settings_of_its_own(capsys):
    commands = {"compare": Compare}
    assert parse(Settings, "", ["compare", "--seeds", "1", "2"], commands) == Compare([1, 2])
    assert parse(Settings, "", ["--root", "compare"], commands).root == Path("compare")
    with pytest.raises(SystemExit):
        parse(Settings, "", ["compare", "--help"], commands, program="search.py")
    assert "usage: search.py compare" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse(Settings, "", ["--help"], commands, program="search.py")
    assert "`search.py compare --help`" in capsys.readouterr().out


def options(*words):
    parser = arguments("Tests.\n\nMore of it.\n", "tests.py")
    parser.add_argument("--data", nargs="+", action="extend", metavar="NAME=DIR")
    parser.add_argument("--rank-by", choices=("mae_x", "wfm"), default="wfm")
    parser.add_argument("--batch", type=Count)
    parser.add_argument("--workers", type=Workers, default=2)
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", type=Path)
    source.add_argument("--video")
    return parser.parse_args(list(words))


def test_a_parser_of_options():
    read = options("--data", "a_b=c_d", "e=f", "--data", "g=h", "--rank_by", "mae_x", "--no-overlay", "--video", "0")
    assert (read.data, read.rank_by, read.overlay, read.video) == (["a_b=c_d", "e=f", "g=h"], "mae_x", False, "0")
    assert (read.images, read.batch, read.workers) == (None, None, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--batch", "0"], "--batch: 0, expected a number from 1"),
        (["--workers", "1000"], "--workers: 1000, expected a number from 0 up to 256"),
        (["--batch", "many"], "--batch: expected int, got many"),
        (["--rank-by", "q"], "invalid choice"),
        (["--images", "a", "--video", "0"], "not allowed with argument --images"),
        (["--data"], "expected at least one argument"),
        (["--rank", "wfm"], "Did you mean --rank-by?"),
    ],
)
def test_mistakes_in_options_are_one_line(capsys, words, told):
    assert told in refused(capsys, *words, parser=options)


@pytest.mark.parametrize(
    "module", ["settings.parser", *sorted(f"{path.parent.name}.settings" for path in ROOT.glob("*/settings.py"))]
)
def test_settings_load_nothing_heavy(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert module in loaded.split() and not {"torch", "timm", "matplotlib", "cv2", "scipy"} & set(loaded.split())


@pytest.mark.parametrize("package", ["net", "data", "training", "nas"])
def test_every_number_of_the_settings_has_a_range(package):
    module = importlib.import_module(f"{package}.settings")
    for kind in vars(module).values():
        if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__):
            continue
        for name, hint in get_type_hints(kind, include_extras=True).items():
            number = get_type_hints(kind)[name] in (int, float)
            assert not number or limit_of(hint) is not None, f"{kind.__name__}.{name}"


def test_in_the_given_order(tmp_path):
    assert list(named_folders([f"b={tmp_path}", f"a={tmp_path}"], "--data").items()) == [
        ("b", tmp_path),
        ("a", tmp_path),
    ]


def test_only_the_first_equals_sign_parts(tmp_path):
    folder = tmp_path / "x=y"
    folder.mkdir()
    assert named_folders([f"a={folder}"], "--data") == {"a": folder}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("ECSSD", "give NAME=DIR"),
        ("=somewhere", "give NAME=DIR"),
        ("a=", "give NAME=DIR"),
        ("a/b=.", "becomes a file name"),
        (".a=.", "becomes a file name"),
        ("a=/no/such/place", "there is no folder /no/such/place"),
    ],
)
def test_refused(word, told):
    with pytest.raises(UserError, match=told) as error:
        named_folders([word], "--maps")
    assert str(error.value).startswith(f"--maps {word}: ")


def test_twice():
    with pytest.raises(UserError, match="'a' is given twice"):
        named_folders(["a=.", "a=."], "--data")
