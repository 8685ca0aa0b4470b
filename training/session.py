"""Session: a run in its folder. It claims the folder, restores what it finds there, saves, and notes requests to stop.

train.py and search.py use it alike. What a run consists of is a dictionary of named objects that have `state_dict` and
`load_state_dict`; the two programs differ in that dictionary. The loops are in the programs.

Resume policy, in this order:

1. Another process writes to the folder: refused.
2. There is no checkpoint: a new run.
3. `last.pt` is taken if it is whole, else `previous.pt` with a notice. Neither is whole: refused.
4. The checkpoint belongs to another program, or to a layout that cannot be read: refused.
5. A setting that affects the result differs (`Format.free` lists those that may): refused, naming both values.
6. A fact that no setting holds differs (images, processes, device, precision, genotype, own operations): refused.
7. A weight is NaN or infinite: refused, naming the tensor.
8. The number of threads or the version of PyTorch differs: a notice, since the last bits may differ.
9. All named objects are loaded, then the random state of this process and of its own device.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import torch
from torch import Tensor

from settings.parser import to_plain
from training.checkpoints import LAST, StateError, load_newest, rehearse, save_newest
from training.compatibility import check_same, completed, defaults, portable, renamed
from training.processes import Processes
from training.progress import Progress
from training.random_state import random_state, set_random_state
from training.stop_request import StopRequest
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.files import remove_parts
from utils.paths import claim

Item = TypeVar("Item")


class Stateful(Protocol):
    """Anything whose state a checkpoint holds: a module, an optimizer, an average, a log, a position."""

    def state_dict(self) -> Any:
        """The state as tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> object:
        """Restores what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class Format:
    """Checkpoints of a program.

    Attributes:
        name: under `format` in the file.
        layout: under `layout` in the file; grows with each change of the keys.
        free: dotted settings that may change when a run resumes.
        renamed: dotted former name of a setting -> present name.
        upgrade: turns a state of another layout into one of this layout, or raises StateError.
    """

    name: str
    layout: int
    free: frozenset[str]
    renamed: Mapping[str, str]
    upgrade: Callable[[dict[str, Any], Path], dict[str, Any]]


class Session:
    """A run in its folder; see the module for the resume policy.

    Args:
        config: settings with `out`, `save_every` and `save_minutes`.
        format: of the program's checkpoints.
        processes: those of the run; rank 0 claims and writes, all read.

    Attributes:
        saved: the state found in the folder, None in a new run. `restore` releases it.
        stop: notes SIGTERM and Ctrl-C from now on.
        check: called before a checkpoint is written; raises, in all processes, if the state must not be kept.

    Raises:
        PathError, StateError, CheckpointError: points 1 to 5 of the policy.
    """

    def __init__(self, config: Any, format: Format, processes: Processes) -> None:
        self.folder: Path = config.out
        self.processes, self.format, self._config = processes, format, config
        self.settings = portable(to_plain(config))
        self._lock: IO[str] | None = claim(self.folder) if processes.first else None
        if processes.first:
            remove_parts(self.folder, ("cells", "heat"))
        self.saved: dict[str, Any] | None = None
        found = load_newest(self.folder, processes.print_once)
        if found is not None:
            self.saved, self._source = self._readable(*found), found[1]
        self.objects: dict[str, Stateful] = {}
        self.facts: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.progress = Progress()
        self.stop = StopRequest()
        self.check: Callable[[], object] = lambda: None
        self._saved_at: dict[str, Any] | None = None
        self._saved_time = time.monotonic()

    def _readable(self, state: dict[str, Any], path: Path) -> dict[str, Any]:
        """Points 4 and 5 of the policy."""
        if (state.get("format"), state.get("layout")) != (self.format.name, self.format.layout):
            state = self.format.upgrade(state, path)
        before = completed(renamed(portable(state["config"]), self.format.renamed), defaults(type(self._config)))
        check_same(before, self.settings, self.format.free)
        return state

    def close(self) -> None:
        """Releases the folder."""
        if self._lock is not None:
            self._lock.close()

    # ------------------------------------------------------------------------------------------------- restore

    def attach(
        self, objects: Mapping[str, Stateful], progress: Progress, facts: dict[str, Any], header: dict[str, Any]
    ) -> None:
        """States what the run consists of.

        Args:
            objects: name in the checkpoint -> object; those that hold tensors are on their device already.
            progress: position of the run; saved as `progress`.
            facts: plain values that must be the same for a run to resume and that no setting holds.
            header: further plain values for whoever reads the file.
        """
        self.objects, self.progress = {**objects, "progress": progress}, progress
        self.facts, self.header = facts, header

    def restore(self) -> bool:
        """Loads the state that was found over the attached objects: points 6 to 9 of the policy.

        Returns:
            Whether there was one.

        Raises:
            StateError: naming the fact that differs, the tensor that is not finite, or the object that is missing.
        """
        state, self.saved = self.saved, None
        if state is None:
            return False
        check_same({name: value for name, value in state["found"].items() if name in self.facts}, {
            name: value for name, value in self.facts.items() if name in state["found"]
        })  # fmt: skip
        for name, part in self.objects.items():
            if name not in state:
                raise StateError(f"{self._source}: '{name}' is missing. Give another --out to start anew.")
            refuse_non_finite(state[name], f"{self._source}: {name}")
            part.load_state_dict(state[name])
        set_random_state(state["random"][self.processes.rank], self.processes.device)
        self._notice("threads", state.get("threads"), torch.get_num_threads())
        self._notice("PyTorch", state.get("torch"), str(torch.__version__))
        self._saved_at = self.progress.state_dict()
        self.processes.print_once(
            f"resuming from {self._source}: epoch {self.progress.epoch + 1}, step {self.progress.step}"
        )
        return True

    def _notice(self, what: str, before: Any, now: Any) -> None:
        if before is not None and before != now:
            self.processes.print_once(
                f"notice: {what}: saved with {before}, now {now}. The last bits of results may differ."
            )

    # ---------------------------------------------------------------------------------------------------- save

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds. Communicates."""
        randoms = self.processes.gather(random_state(self.processes.device))  # every process has its own
        return {
            "format": self.format.name, "layout": self.format.layout, **self.header, "config": self.settings,
            "found": self.facts, "random": randoms, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            **{name: part.state_dict() for name, part in self.objects.items()},
        }  # fmt: skip

    def rehearse(self) -> None:
        """Writes a checkpoint, reads it back and removes it, so that no run fails at its first save.

        Raises:
            WriteError, CheckpointError: if it cannot be written or read.
        """
        state = self.state()
        with self.processes.agreeing():
            if self.processes.first:
                rehearse(self.folder / LAST, lambda trial: (save_checkpoint(trial, state), load_checkpoint(trial)))

    def save(self) -> None:
        """Writes a checkpoint, unless nothing was computed since the last one. Communicates.

        Raises:
            UserError: that of `check`; the last checkpoint then stays.
        """
        self.check()
        position = self.progress.state_dict()
        if position == self._saved_at:
            return
        state = self.state()
        with self.processes.agreeing():
            if self.processes.first:
                save_newest(self.folder, state)
        self._saved_at, self._saved_time = position, time.monotonic()

    def after_step(self) -> bool:
        """Saves if it is time to, or if a process was asked to stop; returns whether one was. Communicates."""
        minutes = (time.monotonic() - self._saved_time) / 60
        due = self.progress.step % self._config.save_every == 0 or 0 < self._config.save_minutes <= minutes
        stop, due = self.processes.any(bool(self.stop.requested), due)
        if stop or due:
            self.save()
        if stop:
            self.processes.print_once(
                f"stopped by {self.stop.requested or 'another process'}; the same command resumes at step "
                f"{self.progress.step}"
            )
        return stop

    def lockstep(self, items: Iterable[Item]) -> Iterator[Item]:
        """Items as they come, in all processes alike. If one can't be read, the state before it is saved."""
        try:
            yield from self.processes.lockstep(items)
        except (UserError, SystemExit):  # SystemExit: another process could not read its share
            if self.progress.step:
                self.save()
            raise


def refuse_non_finite(state: Any, name: str) -> None:
    """Raises StateError if a floating-point tensor, at any depth, holds NaN or infinity; the message names it."""
    if isinstance(state, Tensor):
        if state.is_floating_point() and not torch.isfinite(state).all():
            raise StateError(f"{name} holds NaN or infinity. Give another --out, with a lower optim.lr or optim.clip.")
    elif isinstance(state, Mapping):
        for key, value in state.items():
            refuse_non_finite(value, f"{name}.{key}" if not name.endswith(": ") else f"{name}{key}")
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            refuse_non_finite(value, f"{name}.{number}")
