"""benchmarks/startup.py: the turns, the figures, the files, and that no start needs PyTorch's compiler."""

import json
import subprocess
import sys

import pytest

from benchmarks import startup
from benchmarks.startup import Seconds
from utils.errors import UserError


def test_medians_of_the_rounds_after_the_first():
    order, times = [], iter([90.0, 90.0, 1.0, 10.0, 5.0, 30.0, 2.0, 20.0])

    def way(name):
        def start():
            order.append(name)
            wall = next(times)
            return Seconds(wall, 2 * wall, 3 * wall)

        return start

    assert startup.measure({"a": way("a"), "b": way("b")}, 3) == {"a": Seconds(2, 4, 6), "b": Seconds(20, 40, 60)}
    assert order == ["a", "b"] * 4


def test_the_table_and_the_last_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(startup, "import_torch", lambda: Seconds(2.0, 1.0, 0.5))
    monkeypatch.setattr(startup, "show_help", lambda: Seconds(0.5, 0.3, 0.1))
    monkeypatch.setattr(startup, "first_map", lambda: Seconds(3.25, 3.5, 0.5))
    monkeypatch.setattr(startup, "large_cutout", lambda photo: Seconds(5.0, 4.0, 1.0) if photo.is_file() else None)
    assert startup.main(["--rounds", "1"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["help_over_torch"] == 0.25 and record["first_map_after_torch"] == 1.25
    assert record["cpu_first_map_after_torch"] == 2.5
    assert (record["large_cutout_over_torch"], record["large_cutout_system_over_user"]) == (2.5, 0.25)
    written = (tmp_path / "runs/benchmarks/startup.md").read_text()
    assert "| `--help` | 0.50 | 0.30 | 0.10 | 0.25 | -1.50 |" in written
    assert "| `first map` | 3.25 | 3.50 | 0.50 | 1.62 | +1.25 |" in written


def test_a_process_is_timed_until_its_first_map(tmp_path, monkeypatch):
    writes = "import pathlib, sys, time; f = pathlib.Path(sys.argv[2]) / 'maps'; f.mkdir(parents=True)"
    (tmp_path / "test.py").write_text(f"{writes}; (f / 'a.png').touch(); time.sleep(600)")
    monkeypatch.setattr(startup, "ROOT", tmp_path)
    taken = startup.first_map()
    assert taken.cpu > 0 and 0 < taken.wall < 300
    (tmp_path / "test.py").write_text("raise SystemExit(2)")
    with pytest.raises(UserError, match="ended before its first map"):
        startup.first_map()
    with pytest.raises(UserError, match="--rounds 0: at least 1"):
        startup.main(["--rounds", "0"])


def test_maps_need_neither_the_compiler_nor_sympy_nor_av(root, tmp_path):
    """What they take to import was most of the time to the first map."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['test.py', '--images', 'data/samples/camera.jpg', '--size', '64', "
        f"'--out', {str(tmp_path)!r}]\n"
        "try:\n    runpy.run_path('test.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print([name for name in ('torch._dynamo', 'sympy', 'av', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
