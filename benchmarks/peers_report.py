"""The table of benchmarks/peers.py: a section for each processor that was measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.tables.writer import Table, markdown
from utils.files import replace_text

WAYS = ("network", "pipeline", "folder")
"""What is timed, see benchmarks/peers.py."""
REFERENCES = ("lite int8", "lite")
"""The others are compared with the first of these that was measured: what `auto` takes."""

_TITLE = "# Speed beside the published networks"


def write_report(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes peers.json and peers.md below a folder. A processor that was measured before is replaced.

    So is a file that cannot be read: minutes of measuring are not lost to it.
    """
    path = folder / "peers.json"
    records = {**_known(path), processor_of(record): record}
    replace_text(path, json.dumps(records, indent=1) + "\n")
    replace_text(folder / "peers.md", "\n\n".join([_TITLE, *map(section, records.values())]) + "\n")


def _known(path: Path) -> dict[str, Mapping[str, Any]]:
    """Processor -> its record; nothing where the file is missing, damaged or of an earlier form."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return {processor_of(one): one for one in records.values()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def processor_of(record: Mapping[str, Any]) -> str:
    """The first part of the line on the machine."""
    return str(record["machine"]).split(" | ")[0]


def section(record: Mapping[str, Any]) -> str:
    """The table of a processor, and under which conditions it was measured."""
    methods = record["methods"]
    reference = next(name for name in (*REFERENCES, *methods) if name in methods)
    ways = [way for way in WAYS if way in methods[reference]]
    rows: list[list[str]] = []
    for name, of in methods.items():
        cells = [name, str(of["pixels"]), f"{of['megabytes']:.1f}", of["precision"]]
        for way in ways:
            time, least = of[way], methods[reference][way]["median"]
            cells += [
                f"{time['median']:.1f} ({time['fastest']:.1f} to {time['slowest']:.1f})",
                f"{time['median'] / least:.1f}",
            ]
        rows.append(cells)
    heads = ["method", "pixels", "MB", "precision"]
    heads += [head for way in ways for head in (f"{way}, ms an image", f"times {reference}")]
    command = f"python benchmarks/peers.py --engine {record['engine']} --precision {record['precision']}"
    told = [
        f"`{command}`: {record['count']} images of `{record['images']}`, one at a time, {record['megapixels']} "
        f"megapixels in the mean. Median, fastest and slowest of {record['rounds']} alternated rounds."
    ]
    if "folder" in ways:
        told.append(
            f"Folder: {record['folder']} images as test.py computes them; reading, network and writing overlap."
        )
    parts = [f"## {processor_of(record)}", " ".join(told), record["machine"], markdown(Table(heads, rows))]
    return "\n\n".join(parts)
