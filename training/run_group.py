"""Runs that belong together: a comparison, an ablation, a benchmark that trains. Each is done once.

A run is recognised by its content. That is its program, its settings with their defaults, the bytes of the weights,
genotypes and plugin files that they name, and the names and sizes of the images. Folders have readable
names, which mean nothing: a folder that is renamed is found, and another run never passes for a finished one.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from net.genotype import load
from settings.parser import parse
from training.settings import TrainConfig
from utils.errors import UserError
from utils.files import replace_text

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_EFFECT = frozenset({"out", "data.workers", "data.cache", "save_every", "save_minutes", "log_every"})
"""Settings that do not change what a run computes."""
LATER = {
    "distillation.maps": None, "distillation.weight": None, "effects.groups": ["random"], "effects.trainings": None,
    "network.context": "none", "oneshot.effects": "edges", "validate_every": 1,
}  # fmt: skip
"""Settings that earlier versions did not have, with the value that means what they computed. At that value the key of a
run stays as it was."""
FILES = frozenset({"encoder_weights"})
"""Settings of type text that may be the path of a file."""


class RunGroupError(UserError):
    """A run that fails, or a folder that holds no runs of this version."""


@dataclass(frozen=True)
class Run:
    """One run of a program.

    Attributes:
        title: begins the folder's name, for the reader.
        program: file name below the project, such as `train.py`, or an absolute path.
        arguments: all but `--out`.
        content: what the run depends on, see `settings_content`; plain values.
    """

    title: str
    program: str
    arguments: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def key(self) -> str:
        """64 hexadecimal digits that change with anything the run depends on."""
        text = json.dumps({"program": Path(self.program).name, **self.content}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class RunGroup:
    """Runs in folders below one folder.

    Args:
        folder: of the group; made if needed.
        jobs: how many runs share the cores.

    Raises:
        RunGroupError: if an earlier version left runs there, without a record of their content.
    """

    def __init__(self, folder: Path, jobs: int = 1) -> None:
        self.folder, self.jobs = folder, jobs
        self._lock, self._running = Lock(), dict[str, Lock]()
        old = [path.parent for path in folder.glob("*/finished.json") if isinstance(_read(path), list)]
        if old:
            raise RunGroupError(
                f"{old[0]}: is a run of an earlier version, without a record of what it depends on. Give another --out."
            )

    def complete(self, run: Run) -> Path:
        """The folder of the finished run; runs it unless a folder of the group holds it.

        Raises:
            RunGroupError: if the program fails, with its last line.
        """
        with self._lock:
            lock = self._running.setdefault(run.key, Lock())
        with lock:  # equal runs that are asked for at once are one run
            folder = self._folder_of(run)
            if _read(folder / "finished.json") != {"key": run.key}:
                self._execute(run, folder)
                replace_text(folder / "finished.json", json.dumps({"key": run.key}) + "\n")
            return folder

    def held(self, run: Run) -> Path | None:
        """The folder that holds the run, finished or not; None if there is none."""
        for path in sorted(self.folder.glob("*/run.json")):
            record = _read(path)
            if isinstance(record, dict) and record.get("key") == run.key:
                return path.parent
        return None

    def _folder_of(self, run: Run) -> Path:
        """The folder that holds the run, finished or not; a new one if there is none."""
        with self._lock:
            if (held := self.held(run)) is not None:
                return held
            folder, number = self.folder / f"{run.title}-{run.key[:8]}", 1
            while folder.exists():
                folder, number = self.folder / f"{run.title}-{run.key[:8]}-{number}", number + 1
            record = {"key": run.key, **asdict(run)}
            replace_text(folder / "run.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
            return folder

    def _execute(self, run: Run, folder: Path) -> None:
        output = folder / "output.txt"
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.jobs))} if self.jobs > 1 else {}
        command = [sys.executable, str(ROOT / run.program), *run.arguments, "--out", str(folder)]
        with output.open("a", encoding="utf-8") as stream:
            code = subprocess.run(
                command, stdout=stream, stderr=stream, check=False, env={**os.environ, **threads}
            ).returncode
        if code:
            last = (output.read_text("utf-8").strip().splitlines() or ["no output"])[-1]
            raise RunGroupError(f"{run.program} ended with code {code}: {last[:120]} (all output: {output})")


@contextmanager
def side_by_side(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for runs. After an error no further run begins, so that it shows as soon as those that have begun end."""
    with ThreadPoolExecutor(jobs) as threads:
        try:
            yield threads
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def training_run(title: str, arguments: Sequence[object]) -> Run:
    """A run of train.py.

    Args:
        title: see `Run`.
        arguments: of train.py, without `--out`.

    Raises:
        SystemExit: with code 2 and one line, if they are no settings of train.py.
    """
    words = tuple(map(str, arguments))
    return Run(title, "train.py", words, settings_content(parse(TrainConfig, "Train.", list(words))))


def settings_content(config: Any) -> dict[str, Any]:
    """Settings as plain values, with the content of files and datasets in place of their paths.

    Args:
        config: a dataclass of settings.

    Returns:
        A flat dictionary by dotted key, without the settings that have no effect.
    """
    flat = dict(_flat(asdict(config), ""))
    without = WITHOUT_EFFECT | {key for key, value in LATER.items() if flat.get(key) == value}
    return {key: _content(key, value) for key, value in flat.items() if key not in without}


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        found += _flat(value, f"{prefix}{name}.") if nested else [(prefix + name, value)]
    return found


def _content(key: str, value: Any) -> Any:
    """The content behind a setting."""
    if key == "network.genotype":
        return load(value).plain()
    if isinstance(value, Path) or (key in FILES and Path(value).exists()):
        return file_content(Path(value))
    if isinstance(value, list | tuple):
        return [_content(key, item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _content(key, item) for name, item in value.items()}
    return value


@cache
def file_content(path: Path) -> str:
    """Hash of a file's bytes, of the names and sizes of a folder's files, or the path itself where nothing exists.

    Raises:
        RunGroupError: if it can't be read.
    """
    try:
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            listed = "".join(f"{file.relative_to(path)} {file.stat().st_size}\n" for file in files)
            return hashlib.sha256(listed.encode()).hexdigest()
    except OSError as error:
        raise RunGroupError(f"{path}: can't be read ({error.strerror}). Make it readable.") from None
    return str(path)


def _read(path: Path) -> Any:
    """The JSON of a file; None if there is none or a run that was killed left half of one."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
