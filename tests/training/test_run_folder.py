"""A run's folder has one run at a time, and a dead one does not count."""

import signal
import subprocess
import sys

import pytest

from training.run_folder import RunFolderError, claim

HOLD = "import sys, time, os\nfrom pathlib import Path\nfrom training.run_folder import claim\n"


def holder(folder, then, root):
    code = f"{HOLD}lock = claim(Path({str(folder)!r}))\n{then}\nprint('held', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path, root):
    process = holder(tmp_path / "run", "", root)
    with pytest.raises(RunFolderError, match=rf"run: another run \(process {process.pid} on .*another --out"):
        claim(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    claim(tmp_path / "run").close()


def test_reading_processes_that_outlive_the_run_do_not_hold_it(tmp_path, root):
    process = holder(tmp_path, "if os.fork() == 0:\n    time.sleep(3)\n    sys.exit()", root)
    process.send_signal(signal.SIGKILL)
    process.wait()
    claim(tmp_path).close()


def test_half_written_files_are_cleared_away(tmp_path):
    (tmp_path / ".last.77.part.pt").write_bytes(b"half")
    (tmp_path / "last.pt").write_bytes(b"whole")
    claim(tmp_path).close()
    assert not list(tmp_path.glob(".*.part.*")) and (tmp_path / "last.pt").is_file()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file/run: can't be written \(Not a directory\). Give another --out"):
        claim(tmp_path / "file" / "run")
