"""Where the benchmarks write: runs/benchmarks/ by default, beside the benchmarks with --update-docs."""

from pathlib import Path

COMMITTED = Path(__file__).resolve().parent
UPDATE_HELP = "write the committed tables in benchmarks/ instead of runs/benchmarks/"


def table_folder(update_docs: bool) -> Path:
    """Folder of the tables and figures of a benchmark."""
    return COMMITTED if update_docs else Path("runs/benchmarks")
