"""Networks as ONNX and as OpenVINO models, and their quantisation to int8."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.engines import cache, machine
from inference.engines.base import EngineError, require, version
from inference.engines.preparation import identity, prepare
from inference.weights import LoadedNetwork

INPUT, OUTPUT = "image", "logits"
OPSET = 20
_CALIBRATION = 300  # images; NNCF's own default


def to_onnx(network: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], dynamic: dict[str, Any]) -> Any:
    """Exports with PyTorch's dynamo exporter.

    Args:
        network: the network, in eval mode.
        inputs: an example of each input by name.
        outputs: names of its outputs.
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
    _resize_by_half_pixels(openvino, model)
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, outputs, strict=False):
        port.get_tensor().set_names({name})
    return model


@dataclass(frozen=True)
class Format:
    """How an engine keeps a network on disk.

    Attributes:
        package: the Python package that converts to it.
        wanted: the option that asks for it.
        files: names of the files of a model, the one to open first.
        export: a network, an example input (2, 3, S, S) and which of its dimensions are dynamic, to a model.
        read: opens a model.
        save: writes a model.
        sample: an image (1, 3, S, S) in the form that NNCF feeds to the model.
    """

    package: str
    wanted: str
    files: tuple[str, ...]
    export: Callable[[nn.Module, dict[str, Tensor], dict[str, Any]], Any]
    read: Callable[[Path], Any]
    save: Callable[[Any, Path], None]
    sample: Callable[[NDArray[np.float32]], Any]


def model_file(kind: Format, loaded: LoadedNetwork, size: int, calibration: Sequence[Tensor] | None = None) -> Path:
    """A network as a file in the cache, converted if it is not there yet.

    Args:
        kind: the format.
        loaded: the network.
        size: side S of its input.
        calibration: prepared images, each (3, S, S), for int8; None for the unquantised model.

    Raises:
        EngineError: a package is not installed, or int8 has no images.
    """
    require(kind.package, kind.wanted)
    plain = cache.key(kind.package, identity(loaded, size), version(kind.package))
    name = kind.files[0]

    def convert(folder: Path) -> None:
        example = {INPUT: torch.zeros(2, 3, size, size)}
        kind.save(kind.export(prepare(loaded, size), example, {INPUT: {0: torch.export.Dim.DYNAMIC}}), folder / name)

    if calibration is None:
        return cache.cached(plain, convert, kind.files) / name
    check_samples(calibration, "--precision int8")
    require("nncf", "--precision int8")

    def quantise_plain(folder: Path) -> None:
        source = cache.cached(plain, convert, kind.files) / name
        samples = [kind.sample(image[None].contiguous().numpy()) for image in calibration]
        kind.save(quantise(kind.read(source), samples, "--precision int8"), folder / name)

    images = cache.digest(image.contiguous().numpy().tobytes() for image in calibration)
    quantised = cache.key(plain, images, version("nncf"), machine.saturates())
    return cache.cached(quantised, quantise_plain, kind.files) / name


def check_samples(samples: Sequence[object], wanted: str) -> None:
    """Raises EngineError if there is nothing to calibrate on; `wanted` is the option as the user gave it."""
    if not samples:
        raise EngineError(
            f"{wanted}: int8 is calibrated on images, and there are none. Give a folder: --calibration DIR."
        )


def quantise(
    model: Any,
    samples: Sequence[Any],
    wanted: str,
    read: Callable[[Any], Any] | None = None,
    by_layer: bool = False,
) -> Any:
    """Post-training quantisation to int8, by NNCF.

    The first convolution, those of spatial attention and the head stay in floating point: they cost little, and their
    rounding moves the map most. Weights have 7 bits on processors where sums of 8-bit products saturate: with 8, maps
    of `lite` differed by .0101 instead of .0080 on average (AMD EPYC with AVX2, OpenVINO, 32 images).

    Args:
        model: an openvino.Model or onnx.ModelProto.
        samples: inputs of the model, one for each image: arrays, or dictionaries of arrays by the input's name.
        wanted: the option that asked for it, as the user gave it.
        read: turns a sample into an input when it is needed, so that large images are not in memory together.
        by_layer: correct biases layer after layer instead of all at once. It takes minutes; most maps come nearer.

    Raises:
        EngineError: if there are no samples, or NNCF is not installed.
    """
    check_samples(samples, wanted)
    nncf = require("nncf", wanted)
    overflow = nncf.OverflowFix.ENABLE if machine.saturates() else None  # None: NNCF's default
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(list(samples), read),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=min(len(samples), _CALIBRATION),
            fast_bias_correction=not by_layer,
            ignored_scope=nncf.IgnoredScope(names=_unquantised(model)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=overflow),
        )


def _resize_by_half_pixels(openvino: Any, model: Any) -> None:
    """Replaces the coordinates of every resize by those that PyTorch uses for all sizes.

    OpenVINO's converter writes `pytorch_half_pixel`, which reads the first pixel where the result is one pixel wide;
    PyTorch reads the middle.
    """
    for old in [node for node in model.get_ordered_ops() if node.get_type_name() == "Interpolate"]:
        attributes = old.get_attributes()
        if attributes["coordinate_transformation_mode"] != "pytorch_half_pixel" or len(old.input_values()) != 3:
            continue
        attributes["coordinate_transformation_mode"] = "half_pixel"
        image, sizes, axes = old.input_values()
        new = openvino.opset11.interpolate(image, sizes, **attributes, axes=axes)
        new.set_friendly_name(old.get_friendly_name())
        openvino.utils.replace_node(old, new)


def _unquantised(model: Any) -> list[str]:
    """Names of the operations that stay in floating point: the first convolution, those to one channel, and those after
    the last ReLU, which are the head."""
    if hasattr(model, "graph"):  # onnx.ModelProto
        weights = {weight.name: weight.dims[0] for weight in model.graph.initializer if len(weight.dims) == 4}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        single = [node for node in convolutions if weights.get(node.input[1]) == 1]
        makers = {output: node for node in model.graph.node for output in node.output}
        names = [output.name for output in model.graph.output]
        before = lambda node: [makers[name] for name in node.input if name in makers]  # noqa: E731
        head = _since_relu([makers[name] for name in names], before, lambda node: node.op_type)
        return [node.name for node in (*convolutions[:1], *single, *head)]
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    single = [node for node in convolutions if node.get_output_partial_shape(0)[1] == 1]
    before = lambda node: [port.get_node() for port in node.input_values()]  # noqa: E731
    head = _since_relu(model.get_results(), before, lambda node: node.get_type_name())
    return [node.get_friendly_name() for node in (*convolutions[:1], *single, *head)]


def _since_relu(ends: Sequence[Any], before: Callable[[Any], list[Any]], kind: Callable[[Any], str]) -> list[Any]:
    """The convolutions and matrix products between the last ReLU and the nodes at the end.

    Args:
        ends: the last nodes of a graph.
        before: the nodes that a node reads.
        kind: the type of a node.
    """
    found, waiting = [], list(ends)
    while waiting:
        node = waiting.pop()
        if kind(node) in ("Conv", "Convolution", "MatMul"):
            found.append(node)
        if kind(node) not in ("Relu", "ShapeOf", "Shape"):
            waiting += before(node)
    return found


def file_size(path: Path) -> int:
    """Bytes of a model; of OpenVINO's .xml with the .bin beside it."""
    parts = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return sum(part.stat().st_size for part in parts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the log lines and warnings of the exporters; errors pass."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
