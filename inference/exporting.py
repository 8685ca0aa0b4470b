"""Converts a network to one file: choice of engine and precision, conversion, calibration, and the file's record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.export import Dim

from data.image_io import ImageReadError, read_image
from data.transforms import prepare_image
from inference.compact import compact
from inference.end_to_end import EndToEnd
from inference.engines import conversion
from inference.engines.base import EngineError, notice, require, version
from inference.engines.openvino_engine import precisions
from inference.engines.preparation import prepare
from inference.export_records import FORMS, Record
from inference.weights import LoadedNetwork, network_record

PRECISIONS = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "fp16", "int8"), "torch": ("fp32",)}
PACKAGES = {
    "onnxruntime": ("torch", "onnx", "onnxscript", "onnxruntime"), "openvino": ("torch", "openvino"),
    "torch": ("torch",),
}  # fmt: skip
CALIBRATION_IMAGES = 300
NETWORK_KINDS = (("onnxruntime", "fp32"), ("openvino", "int8"))
"""Engine and precision of the files of form `network`."""


class Kind(NamedTuple):
    """What is written: engine and precision of the file, and its form, see `FORMS`."""

    engine: str
    precision: str
    form: str


def choose(engine: str, precision: str, form: str) -> Kind:
    """The kind of file that was asked for; `auto` is ONNX in float32.

    Raises:
        EngineError: no such file exists, or a package that writes it is not installed.
    """
    kind = Kind("onnxruntime" if engine == "auto" else engine, "fp32" if precision == "auto" else precision, form)
    for package in PACKAGES[kind.engine]:
        require(package, f"--engine {kind.engine}")
    if kind.precision not in PRECISIONS[kind.engine]:
        known = ", ".join(PRECISIONS[kind.engine])
        raise EngineError(f"--precision {kind.precision}: a file for {kind.engine} has {known}. Use one of them.")
    if kind.precision == "bf16" and "bf16" not in precisions():
        raise EngineError("--precision bf16: this processor does not compute in it, so no check is possible. Use fp32.")
    if form == "network" and kind[:2] not in NETWORK_KINDS:
        raise EngineError(
            f"--form network: exists for onnxruntime in fp32 and for openvino in int8, not for {kind.engine} in "
            f"{kind.precision}. Use one of them, or --form image."
        )
    return kind


def convert(
    loaded: LoadedNetwork, size: int, kind: Kind, calibration: Sequence[Path] = (), by_layer: bool = False
) -> Any:
    """The network as a model of the engine.

    Args:
        loaded: the network.
        size: side of the square that it computes at.
        kind: from `choose`.
        calibration: images for int8.
        by_layer: correct the biases of int8 layer after layer, see `conversion.quantise`.

    Raises:
        EngineError: int8 without images, or NNCF is not installed.
    """
    if kind.precision == "int8" and not calibration:
        raise EngineError("--precision int8: is calibrated on images. Give some of yours: --calibration DIR.")
    step = -(-len(calibration) // CALIBRATION_IMAGES)
    samples = [path for path in calibration[::step] if _readable(path)] if calibration else []
    if kind.form == "network":
        if kind.precision == "fp32":
            return network_form(loaded, size)
        return quantised_network(loaded, size, samples, by_layer)
    network = EndToEnd(prepare(loaded, size), size)
    example = {"image": torch.zeros(2, 90, 120, 3, dtype=torch.uint8)}
    dynamic = {"image": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
    if kind.engine == "torch":
        return torch.export.export(network, tuple(example.values()), dynamic_shapes=dynamic)
    if kind.engine == "openvino":
        model = conversion.to_openvino(network, example, dynamic, ["saliency"])
    else:
        model = conversion.to_onnx(network, example, ["saliency"], dynamic)
    if kind.precision != "int8":
        return model
    read = lambda path: {"image": read_image(path)[None]}  # noqa: E731
    return conversion.quantise(model, samples, "--precision int8", read, by_layer)


def network_form(loaded: LoadedNetwork, size: int) -> Any:
    """Only the network as ONNX: (1, 3, S, S) prepared float32 to (1, 1, S, S) logits; kernels in float16."""
    example = {conversion.INPUT: torch.zeros(1, 3, size, size)}
    model = conversion.to_onnx(prepare(loaded, size), example, [conversion.OUTPUT], {})
    compact(model, loaded.network)
    return model


def quantised_network(loaded: LoadedNetwork, size: int, samples: Sequence[Path], by_layer: bool) -> Any:
    """Only the network as an OpenVINO model in int8: (B, 3, S, S) prepared float32 to (B, 1, S, S) logits."""
    example = {conversion.INPUT: torch.zeros(2, 3, size, size)}
    model = conversion.to_openvino(
        prepare(loaded, size), example, {conversion.INPUT: {0: Dim.DYNAMIC}}, [conversion.OUTPUT]
    )
    read = lambda path: prepare_image(read_image(path), size)[None].numpy()  # noqa: E731
    return conversion.quantise(model, samples, "--precision int8", read, by_layer)


def describe(loaded: LoadedNetwork, size: int, kind: Kind) -> Record:
    """The record of a file; its `checks` are added after they were made."""
    packages = (*PACKAGES[kind.engine], *(["nncf"] if kind.precision == "int8" else []))
    return {
        "format": FORMS[kind.form],
        "weights": {"file": loaded.source.name, "sha256": loaded.sha256, **network_record(loaded.config)},
        "size": size,
        "precision": kind.precision,
        "versions": {name: version(name) for name in packages},
    }


def _readable(path: Path) -> bool:
    """Whether an image can be read; prints a notice if not."""
    try:
        read_image(path)
    except ImageReadError as error:
        notice(f"left out of the calibration: {error}")
        return False
    return True
