"""Folded networks as ONNX and as OpenVINO models, and their quantisation to int8."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inference.engines import cache
from inference.engines.base import EngineError, require, version

OPSET = 20
_CALIBRATION = 300  # NNCF's own default: more pictures change little


def to_onnx(network: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], dynamic: dict[str, Any]) -> Any:
    """Exports with PyTorch's dynamo exporter.

    Args:
        network: what to export, in eval mode.
        inputs: an example of each input by name.
        outputs: names of what it returns.
        dynamic: as `dynamic_shapes` of torch.onnx.export, by input.

    Returns:
        an onnx.ModelProto.

    Raises:
        EngineError: if onnx or onnxscript is not installed.
    """
    require("onnx", "ONNX")
    require("onnxscript", "ONNX")
    with _quiet():
        program = torch.onnx.export(
            network, tuple(inputs.values()), dynamo=True, opset_version=OPSET, input_names=list(inputs),
            output_names=list(outputs), dynamic_shapes=dynamic, verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def to_openvino(
    network: nn.Module, inputs: dict[str, Tensor], dynamic: dict[str, Any], outputs: Sequence[str] = ()
) -> Any:
    """Converts by torch.export; arguments as `to_onnx`.

    Returns:
        an openvino.Model.

    Raises:
        EngineError: if openvino is not installed.
    """
    openvino = require("openvino", "OpenVINO")
    with _quiet():
        exported = torch.export.export(network, tuple(inputs.values()), dynamic_shapes=dynamic, strict=False)
        model = openvino.convert_model(exported)
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, outputs, strict=False):
        port.get_tensor().set_names({name})
    return model


def converted(
    parts: Sequence[object],
    name: str,
    convert: Callable[[Path], None],
    quantise_file: Callable[[Path, Path], None],
    calibration: Sequence[Tensor] | None,
) -> Path:
    """A converted network as a file in the cache, made if it is not there yet.

    Args:
        parts: all that the plain model depends on.
        name: of the file.
        convert: writes the plain model to a path.
        quantise_file: reads the plain model from the first path and writes it in int8 to the second.
        calibration: prepared pictures, each (3, S, S), for int8; None for the plain model.

    Raises:
        EngineError: if int8 has no pictures, or NNCF is not installed.
    """
    plain = cache.key(*parts)
    files = [name, str(Path(name).with_suffix(".bin"))] if name.endswith(".xml") else [name]
    source = cache.cached(plain, lambda folder: convert(folder / name), files) / name
    if calibration is None:
        return source
    check_samples(calibration, "--precision int8")
    require("nncf", "--precision int8")
    pictures = cache.digest(image.contiguous().numpy().tobytes() for image in calibration)
    quantised = cache.key(plain, pictures, version("nncf"))
    return cache.cached(quantised, lambda folder: quantise_file(source, folder / name), files) / name


def check_samples(samples: Sequence[object], wanted: str) -> None:
    """Raises EngineError if there is nothing to calibrate on; `wanted` is the option as the user gave it."""
    if not samples:
        raise EngineError(
            f"{wanted}: int8 is calibrated on pictures, and there are none. Give a folder: --calibration DIR."
        )


def quantise(model: Any, samples: Sequence[Any], wanted: str, read: Callable[[Any], Any] | None = None) -> Any:
    """Post-training quantisation to int8, by NNCF.

    Convolutions to a single channel, the logits' own and the spatial attention's, stay in floating point: they cost
    little and decide much.

    Args:
        model: an openvino.Model or onnx.ModelProto.
        samples: what the model takes, one a picture: arrays, or dictionaries of them by the input's name.
        wanted: the option that asked for it, as the user gave it.
        read: makes of one of the samples what the model takes, when it is needed: large ones need not all be in memory.

    Raises:
        EngineError: if there are no samples, or NNCF is not installed.
    """
    check_samples(samples, wanted)
    nncf = require("nncf", wanted)
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(list(samples), read),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=min(len(samples), _CALIBRATION),
            ignored_scope=nncf.IgnoredScope(names=_single_channel_convolutions(model)),
        )


def _single_channel_convolutions(model: Any) -> list[str]:
    if hasattr(model, "graph"):  # onnx.ModelProto
        single = {weight.name for weight in model.graph.initializer if len(weight.dims) == 4 and weight.dims[0] == 1}
        return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in single]
    convolutions = (node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    return [node.get_friendly_name() for node in convolutions if node.get_output_partial_shape(0)[1] == 1]


def file_size(path: Path) -> int:
    """Bytes of a model; of OpenVINO's .xml with the .bin beside it."""
    parts = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return sum(part.stat().st_size for part in parts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' own chatter off the user's screen; errors pass."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
