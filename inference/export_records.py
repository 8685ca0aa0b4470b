"""The record in an exported file, as JSON in its metadata."""

import json
from pathlib import Path
from typing import Any

from inference.errors import EngineError

KEY = "auto_msfnet"
"""Key of the record in the metadata of a file."""
IMAGE_FORMAT, NETWORK_FORMAT = "auto-msfnet-map/1", "auto-msfnet-network/1"
SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Of the files of each engine."""
FORMS = {"image": IMAGE_FORMAT, "network": NETWORK_FORMAT}
Record = dict[str, Any]


def read_record(path: Path, text: str | None, formats: tuple[str, ...] = (IMAGE_FORMAT,)) -> Record:
    """The record of an exported file.

    Args:
        path: of the file, for the error.
        text: the JSON that the file holds.
        formats: those that are supported.

    Raises:
        EngineError: there is none, or its format is another.
    """
    try:
        record = json.loads(text or "")
    except (ValueError, RecursionError):
        raise EngineError(f"{path}: was not written by export.py: it has no record '{KEY}'. Export it again.") from None
    found = record.get("format") if isinstance(record, dict) else None
    if found not in formats:
        raise EngineError(f"{path}: format is {found!r}, expected {formats[0]!r}. Export it again.")
    return record


def unreadable(path: Path, reader: str, error: Exception) -> EngineError:
    """The error for a file that an engine cannot read."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return EngineError(
        f"{path}: {reader} cannot read it ({reason.rstrip('.')}). It is damaged, or was made for another version: "
        f"export it again here, or install the version that it was made for."
    )
