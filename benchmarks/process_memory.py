"""Other processes while they run: their peak memory and children, as Linux shows them, and the progress of test.py."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_POLL = 0.1  # seconds


def watched(command: Sequence[str], look: Callable[[list[int]], None]) -> tuple[int, str]:
    """Runs a command; returns its exit code and what it printed.

    Args:
        command: program and arguments.
        look: called ten times a second with the process and its children.
    """
    with tempfile.TemporaryFile() as printed, subprocess.Popen(command, stdout=printed, stderr=printed) as process:
        while process.poll() is None:
            look([process.pid, *children(process.pid)])
            time.sleep(_POLL)
        printed.seek(0)
        return process.returncode, printed.read().decode(errors="replace")


def largest_peak(processes: Sequence[int]) -> float:
    """Peak in MB of the process that takes the most."""
    return max((peak_mb(process) or 0.0 for process in processes), default=0.0)


def peak_mb(process: int) -> float | None:
    """Peak of resident memory in MB (10^6 bytes); None where the process has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return None
    return megabytes(int(status.split("VmHWM:")[1].split()[0])) if "VmHWM:" in status else None


def children(process: int) -> list[int]:
    """The processes that a process started, oldest first."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text("utf-8")
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == process:
            found.append(int(status.parent.name))
    return sorted(found)


def recorded(out: Path) -> int:
    """Images of a run of test.py whose outputs are in the manifest of its folder; its first line is the heading."""
    try:
        return max(0, (out / "manifest.jsonl").read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def megabytes(kibibytes: int) -> float:
    """10^6 bytes of what /proc counts."""
    return round(kibibytes * 1024 / 1e6, 1)
