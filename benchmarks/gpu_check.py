"""Acceptance on a GPU: is it right, then how fast is it. Under ten minutes; writes a report.

    python benchmarks/gpu_check.py                         all checks on the GPU
    python benchmarks/gpu_check.py --checks maps resume    some of them
    python benchmarks/gpu_check.py --device cpu --small    proves the program without a GPU
    python benchmarks/gpu_check.py --update-docs           writes benchmarks/gpu_check.md

Every check runs in a process of its own with a time limit, so one that fails, hangs or breaks the driver hides no
other. Exit status 1 if one failed. Last line: JSON.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import gpu_checks as right
from benchmarks import gpu_speed as speed
from benchmarks.gpu_checks import Sizes, Values
from benchmarks.tables import UPDATE_HELP, table_folder
from evaluation.tables.writer import Table, markdown
from utils.device import banner, choose_device
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text

CHECKS: dict[str, tuple[Callable[[Sizes], Values], int]] = {
    "maps": (right.maps, 70),
    "engine": (right.engine, 40),
    "second_order": (right.second_order, 80),
    "joined": (right.joined, 40),
    "resume": (right.resume, 50),
    "processes": (right.processes, 40),
    "mixed_precision": (right.mixed_precision, 90),
    "compiled": (right.compiled, 100),
    "waits": (right.waits, 80),
    "roofline": (speed.roofline, 30),
    "train_speed": (speed.train_speed, 60),
    "search_speed": (speed.search_speed, 60),
}
"""Every check with its limit in seconds; with --small ten times as long."""
BUDGET = 570.0  # seconds for all checks


def main(words: list[str] | None = None) -> int:
    """Runs the checks and writes the report; 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small networks and few steps")
    parser.add_argument(
        "--checks", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="NAME", help=str([*CHECKS])
    )
    parser.add_argument("--update-docs", action="store_true", help=UPDATE_HELP)
    parser.add_argument("--one", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    device = choose_device(options.device)
    if options.update_docs and (device.type == "cpu" or options.small):
        raise UserError(
            "--update-docs: the committed report is of a whole run on a GPU. Leave out --small and --device."
        )
    if options.one:
        print(json.dumps(alone(options.one, Sizes(device, options.small))))
        return 0
    end = time.monotonic() + (BUDGET if not options.small else math.inf)
    shared = ["--device", options.device, *(["--small"] if options.small else [])]
    results = {name: isolated(name, shared, end - time.monotonic()) for name in options.checks}
    path = table_folder(options.update_docs) / "gpu_check.md"
    replace_text(path, report(banner(device, "all precisions"), results))
    print(path.read_text(encoding="utf-8"))
    print(json.dumps({"report": str(path), "device": banner(device, "all precisions"), "checks": results}))
    return int(any(result["state"] != "passed" for result in results.values()))


def alone(name: str, sizes: Sizes) -> dict[str, Any]:
    """One check in this process: `state`, `values` or `message`."""
    try:
        return {"state": "passed", "values": CHECKS[name][0](sizes)}
    except Exception as error:  # whatever a driver or a kernel raises is the result of the check
        return {"state": "failed", "message": f"{type(error).__name__}: {error}".partition("\n")[0][:300]}


def isolated(name: str, shared: list[str], left: float) -> dict[str, Any]:
    """One check in a process of its own: as `alone`, with its seconds.

    Args:
        name: of the check.
        shared: arguments of this program.
        left: seconds that are left for it; it gets its own limit at most.
    """
    slow = 10 if "--small" in shared else 1  # the limits are those of a GPU
    limit, begin = min(CHECKS[name][1] * slow, left), time.monotonic()
    if limit < 1:
        return {"state": "left out", "message": f"the {BUDGET:.0f} s of this program were used up", "seconds": 0.0}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, *shared]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        lines = done.stdout.strip().splitlines()
        found = json.loads(lines[-1]) if done.returncode == 0 and lines else None
    except subprocess.TimeoutExpired:
        found, done = {"state": "failed", "message": f"not finished after {limit:.0f} s"}, None
    if found is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1] if done else ""
        found = {"state": "failed", "message": f"exit status {done.returncode if done else ''}: {last[:250]}"}
    result = {**found, "seconds": round(time.monotonic() - begin, 1)}
    print(f"{name}: {result['state']}, {result['seconds']} s {result.get('message', '')}", flush=True)
    return result


def report(machine: str, results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    passed = sum(result["state"] == "passed" for result in results.values())
    rows = [[name, one["state"], f"{one['seconds']:.0f}", one.get("message", "")] for name, one in results.items()]
    text = (
        f"# Acceptance on this device\n\n`python benchmarks/gpu_check.py`; {machine}; {passed} of {len(results)} "
        f"checks passed.\n\n{markdown(Table(['check', 'state', 'seconds', 'message'], rows, left=4))}\n"
    )
    for name, result in results.items():
        values = result.get("values", {})
        nested = {key: value for key, value in values.items() if isinstance(value, dict)}
        if nested:
            heads = list(next(iter(nested.values())))
            cells = [[key, *(_number(value.get(head)) for head in heads)] for key, value in nested.items()]
            text += f"\n## {name}\n\n{markdown(Table([name, *heads], cells))}\n"
        elif values:
            cells = [[key, _number(value)] for key, value in values.items()]
            text += f"\n## {name}\n\n{markdown(Table([name, 'value'], cells))}\n"
    return text


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
