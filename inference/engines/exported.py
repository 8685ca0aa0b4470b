"""Saves and opens exported files: ONNX, OpenVINO IR or a PyTorch program, from raw RGB to maps.

A file contains its own record (`Record`): the weights that it was made from, and how far its maps are from PyTorch's.
The record is JSON: in ONNX in the metadata, in OpenVINO IR in the runtime information `auto_msfnet`, in .pt2 in the
extra file `auto_msfnet.json`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engines.base import EngineError, require, version
from inference.export_records import FORMS, IMAGE_FORMAT, KEY, Record, read_record, unreadable
from inference.network_form import network_map

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f32", "int8": "f32"}
"""OpenVINO's precision for a file: fp16 is how weights are stored, int8 leaves some layers in float32."""

Run = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """An exported file, opened.

    Attributes:
        record: the file's record.
        run: (B, H, W, 3) uint8 RGB to (B, H, W) float32 in [0, 1].
    """

    record: Record
    run: Run


def save(model: Any, path: Path, record: Record, half: bool = False) -> None:
    """Writes a model with its record.

    Args:
        model: an onnx.ModelProto, openvino.Model or torch ExportedProgram.
        path: with the suffix of its kind; OpenVINO writes a .bin beside it.
        record: must have `format` and `precision`.
        half: whether weights are stored in float16 (OpenVINO only).
    """
    text = json.dumps(record)
    if path.suffix == ".onnx":
        onnx = require("onnx", "ONNX")
        for node in model.graph.node:  # the exporter notes the lines of code and their folders on this machine
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        onnx.helper.set_model_props(model, {KEY: text})
        onnx.save(model, path)
    elif path.suffix == ".xml":
        model.set_rt_info(text, [KEY])
        require("openvino", "OpenVINO").save_model(model, path, compress_to_fp16=half)
    else:
        torch.export.save(model, path, extra_files={f"{KEY}.json": text})


def open_exported(path: Path) -> Exported:
    """Opens a file that export.py wrote, with the engine that its suffix names.

    Raises:
        EngineError: it is missing, damaged, of another version, or its engine is not installed.
    """
    openers = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_torch}
    if path.suffix not in openers:
        raise EngineError(f"{path}: no exported network; its suffix must be one of {', '.join(openers)}.")
    if not path.is_file():
        raise EngineError(f"{path}: no such file. Write it with export.py.")
    return openers[path.suffix](path)


def _open_onnx(path: Path) -> Exported:
    require("onnxruntime", str(path))
    from inference.onnx_maps import OnnxMaps

    opened = OnnxMaps(path)
    return Exported(opened.record, opened.batch)


def _open_openvino(path: Path) -> Exported:
    core = require("openvino", str(path)).Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise unreadable(path, f"OpenVINO {version('openvino')}", error) from None
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    record = read_record(path, text, tuple(FORMS.values()))
    whole = record["format"] == IMAGE_FORMAT
    if not whole:
        model.reshape([1, 3, record["size"], record["size"]])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[record["precision"]]})

    def run(inputs: NDArray[Any]) -> NDArray[np.float32]:
        return compiled(inputs)[0].copy()

    if whole:
        return Exported(record, run)
    return Exported(record, lambda pixels: np.stack([network_map(run, record["size"], image) for image in pixels]))


def _open_torch(path: Path) -> Exported:
    extra = {f"{KEY}.json": ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch.export raises many classes for a broken file
        raise unreadable(path, f"PyTorch {torch.__version__}", error) from None
    network = program.module()
    return Exported(read_record(path, extra[f"{KEY}.json"]), lambda pixels: network(torch.from_numpy(pixels)).numpy())
