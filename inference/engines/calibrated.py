"""Calibrated int8 files that ship beside the weights for OpenVINO: `weights/NAME_int8.xml` and its .bin.

Without one, int8 is calibrated on images of the user, which takes a minute.
"""

from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from inference.engines import machine
from inference.export_records import KEY, NETWORK_FORMAT, Record, read_record
from inference.weights import SHIPPED, LoadedNetwork


def calibrated_file(loaded: LoadedNetwork, size: int) -> Path | None:
    """The shipped int8 file of a network for inputs of side `size`, in pixels.

    None if there is none, if it is damaged, was made from other weights or for another size, or if this processor would
    need weights of 7 bits, see `machine.saturates`.

    Raises:
        EngineError: it has no record of export.py.
    """
    path = loaded.source.with_name(f"{loaded.source.stem}_int8.xml")
    if loaded.source.parent != SHIPPED or machine.saturates():
        return None
    try:
        model, weights = path.stat(), path.with_suffix(".bin").stat()
        record = _record(path, model.st_mtime_ns, model.st_size, weights.st_size)
    except (OSError, ElementTree.ParseError):
        return None
    same = record is not None and (record["weights"]["sha256"], record["size"]) == (loaded.sha256, size)
    return path if same else None


@lru_cache(maxsize=8)
def _record(path: Path, changed: int, length: int, weights: int) -> Record | None:
    """The record of a file; None if its weights end too early, since OpenVINO maps them into memory and would crash.

    Args:
        path: of the .xml.
        changed, length: time stamp and size of that file, so that it is read again when it has changed.
        weights: bytes of the .bin.
    """
    tree = ElementTree.parse(path)
    constants = [entry for entry in tree.iter("data") if entry.get("offset") is not None]
    end = max((int(entry.get("offset", 0)) + int(entry.get("size", 0)) for entry in constants), default=0)
    if weights < end:
        return None
    entry = tree.find(f"./rt_info/{KEY}")
    return read_record(path, None if entry is None else entry.get("value"), (NETWORK_FORMAT,))
