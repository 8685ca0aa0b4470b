"""Calibrated int8 files that ship beside the weights for OpenVINO: `weights/NAME_int8.xml` and its .bin.

Without one, int8 is calibrated on images of the user, which takes a minute.
"""

from pathlib import Path
from xml.etree import ElementTree

from inference.engines import machine
from inference.export_records import KEY, NETWORK_FORMAT, read_record
from inference.weights import SHIPPED, LoadedNetwork


def calibrated_file(loaded: LoadedNetwork, size: int) -> Path | None:
    """The shipped int8 file of a network for inputs of side `size`.

    None if there is none, if it was made from other weights or for another size, or if this processor would need
    weights of 7 bits, see `machine.saturates`.
    """
    path = loaded.source.with_name(f"{loaded.source.stem}_int8.xml")
    if loaded.source.parent != SHIPPED or machine.saturates() or not path.with_suffix(".bin").is_file():
        return None
    try:
        entry = ElementTree.parse(path).find(f"./rt_info/{KEY}")
        record = read_record(path, None if entry is None else entry.get("value"), (NETWORK_FORMAT,))
    except (OSError, ElementTree.ParseError):
        return None
    same = (record["weights"]["sha256"], record["size"]) == (loaded.sha256, size)
    return path if same else None
