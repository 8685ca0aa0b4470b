"""Programs of this project as processes of their own, forked from one that has imported PyTorch.

Importing takes longer than most runs of the tests. What runs is what `python PROGRAM` runs: in a process that can be
stopped and killed, with its own working folder, environment and outputs. Each program also has tests that start it
with `sys.executable`.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.kills import LOADED

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
_SERVER = multiprocessing.get_context("forkserver")


@contextmanager
def server():
    """The context of multiprocessing whose processes are forked; inside of the block they can be started."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():  # of the server, which the first process starts
            patch.setenv(name, value)
        patch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # else pytest would be imported again
        _SERVER.set_forkserver_preload(LOADED)
        yield _SERVER


class Program:
    """A running program, with the interface of subprocess.Popen.

    Args:
        words: the script's path below the project's folder, and its arguments.
        cwd: its working folder.
        environment: variables beside those of this process.
        merged: whether its errors go into its output.
        limits: value of resources (`resource.RLIMIT_...`) for the program.
        signal_at: a signal and a step; the program gets the signal right after its first checkpoint of that step or a
            later one, however busy the machine is.
    """

    def __init__(self, *words, cwd=ROOT, environment=None, merged=False, limits=None, signal_at=None):
        descriptors, self._files = zip(*(tempfile.mkstemp() for _ in range(1 if merged else 2)), strict=True)
        for descriptor in descriptors:
            os.close(descriptor)
        changes = {**os.environ, **ENVIRONMENT, **(environment or {})}
        outputs = (self._files[0], self._files[-1])
        arguments = (list(map(str, words)), str(cwd), changes, outputs, limits or {}, signal_at)
        with server() as context:
            self._process = context.Process(target=_run, args=arguments)
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=600):
        """Waits for the end; returns what it wrote to standard output and standard error."""
        self._process.join(timeout)
        assert self.returncode is not None, f"still running after {timeout} s"
        texts = [Path(file).read_text() for file in self._files]
        for file in self._files:
            Path(file).unlink()
        return texts[0], texts[1] if len(texts) > 1 else None


class Done:
    """A program that has ended, with the interface of subprocess.CompletedProcess."""

    def __init__(self, *words, **options):
        running = Program(*words, **options)
        self.stdout, self.stderr = running.communicate()
        self.returncode = running.returncode


class Together:
    """Two processes of one program as torchrun starts them, with one output."""

    def __init__(self, *words, **options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        worlds = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
        self.programs = [
            Program(*words, merged=True, environment={**meeting, **worlds, "RANK": rank, "LOCAL_RANK": rank}, **options)
            for rank in ("0", "1")
        ]

    def poll(self):
        """None while both run."""
        return next((code for code in (each.poll() for each in self.programs) if code is not None), None)

    def send_signal(self, number):
        for each in self.programs:
            each.send_signal(number)

    def communicate(self, timeout=600):
        """What both wrote, that of the first process first; its errors are among it."""
        return "".join(each.communicate(timeout)[0] for each in self.programs), None

    @property
    def returncode(self):
        return max((each.returncode for each in self.programs), key=abs)


def run_of_group(command, *, stdout, env, **_):
    """In place of subprocess.run in training/run_group.py, for a program of this project."""
    done = Program(*command[1:], cwd=Path.cwd(), environment=env, merged=True)
    stdout.write(done.communicate()[0])
    return subprocess.CompletedProcess(command, done.returncode)


def wait_for(condition, running, seconds=300):
    """Waits until a condition holds or the program has ended."""
    deadline = time.monotonic() + seconds
    while not condition() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition() or running.poll() is not None, f"it took more than {seconds} s"


def _run(words, cwd, environment, outputs, limits, signal_at):
    multiprocessing.set_start_method(None, force=True)  # the default again, not that of this process
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in zip((1, 2), outputs, strict=True):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    if signal_at:
        _signal_at(*signal_at)
    script = str(ROOT / words[0])
    sys.argv = [words[0], *words[1:]]
    sys.path[:0] = [str(Path(script).parent), str(ROOT)]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without them


def _signal_at(number, step):
    from training.session import Session  # it imports PyTorch; see conftest.py

    save, sent = Session.save, []

    def save_and_signal(session):
        save(session)
        if session.progress.step >= step and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    Session.save = save_and_signal
