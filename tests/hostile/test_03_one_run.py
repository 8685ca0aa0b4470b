"""Point 3: two runs never write into one folder at once, and a killed run does not block the next."""

import signal
import subprocess
import sys

import pytest

from tests.hostile.conftest import contents
from utils.errors import UserError


def test_a_second_run_is_refused(run, photos, tmp_path, root):
    assert run("--images", photos) == 0
    before = contents(tmp_path / "out")
    code = (
        "import sys, time; from pathlib import Path; from utils.paths import claim; "
        "lock = claim(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"another run \(process {holder.pid}"):
        run("--images", photos / "a.png")
    assert contents(tmp_path / "out").items() >= before.items(), "nothing was removed"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert run("--images", photos) == 0
    assert not list((tmp_path / "out").glob(".*")), "the lock is gone"
