"""Files of tensors, read without running code: our checkpoints, .safetensors, and pickles in weights-only mode.

The kind of a file is taken from its content, not from its suffix.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load

from utils.errors import UserError
from utils.files import write_beside

FORMAT = "auto-msfnet/1"
"""Version of what our checkpoints and weights files hold."""
_AGAIN = "Copy or download it again."
_UNPACK = "Unpack it, and give the weights file that it contains."
_HEADS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself. Run `git lfs pull`."),
    (rb"\s*(<!doctype|<html|<\?xml)", "is a web page, not weights. Open the link in a browser, and download the file."),
    (rb"\s*[{\[]\s*[\"{\[\]}]", "is JSON text, not weights: often the error message of a server. Download it again."),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|Rar!|7z\xbc\xaf|(?s:.{257}ustar)", f"is an archive. {_UNPACK}"),
    (rb"\x89HDF", "is an HDF5 file (Keras), which is not supported. Convert it to .safetensors."),
)


class CheckpointError(UserError):
    """A checkpoint that is missing, broken, unsafe, or of another network."""


def save_checkpoint(path: Path, state: Mapping[str, Any], keep: Path | None = None) -> None:
    """Writes a checkpoint that `load_checkpoint` reads back, whole or not at all.

    Args:
        path: the file.
        state: tensors and plain data.
        keep: where to leave the previous file of that path.
    """
    write_beside(path, lambda part: torch.save(dict(state), part), durable=True, keep=keep)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a file of tensors and plain data onto the CPU, without running anything that it may hold.

    Raises:
        CheckpointError: if it is missing, no such file, truncated, or holds more than tensors and plain data.
    """
    return parse_checkpoint(read_bytes(path), path)[0]


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: if it can't be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: can't be read ({reason}). Give the path of a weights file.") from None


def parse_checkpoint(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The dictionary that a file's bytes hold, and the metadata of a .safetensors file, else nothing.

    Args:
        content: of the file; the caller may hash the same bytes.
        path: for errors.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    if not content:
        raise CheckpointError(f"{path}: is empty. {_AGAIN}")
    for pattern, problem in _HEADS:
        if re.match(pattern, content[:512], re.IGNORECASE) and not _is_safetensors(content):
            raise CheckpointError(f"{path}: {problem}")
    pickled = content.startswith((b"PK", b"\x80"))
    if _is_safetensors(content) or (path.suffix == ".safetensors" and not pickled):
        return _parse_safetensors(content, path)
    return _parse_pickle(content, path), {}


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") < 1 << 27


def _parse_safetensors(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, header.get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: truncated or no safetensors file ({error}). {_AGAIN}") from None


def _parse_pickle(content: bytes, path: Path) -> dict[str, Any]:
    if zipfile.is_zipfile(io.BytesIO(content)):
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        if not any(name.endswith("data.pkl") for name in names):
            raise CheckpointError(f"{path}: is an archive of {len(names)} files. {_UNPACK}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", str(error))
        if found is None:
            raise CheckpointError(f"{path}: truncated or no checkpoint ({_first_line(error)}). {_AGAIN}") from None
        raise CheckpointError(
            f"{path}: refused, since it holds more than tensors and plain values ({found[1]}); loading it could run "
            f"code. If you trust it, save only its weights: torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # pickle, zip and storages raise a dozen kinds for one broken file
        raise CheckpointError(f"{path}: truncated or no checkpoint ({_first_line(error)}). {_AGAIN}") from None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        kind = "dictionary with keys that are no text" if isinstance(state, Mapping) else type(state).__name__
        raise CheckpointError(
            f"{path}: holds a {kind}, expected a dictionary of named tensors. Save it with "
            f"torch.save(model.state_dict(), FILE)."
        )
    return dict(state)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].partition(". ")[0][:120] if str(error) else type(error).__name__
