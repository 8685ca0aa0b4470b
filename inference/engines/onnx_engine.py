"""ONNX Runtime on the CPU: folded, in float32 or int8."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from inference.engines import conversion
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, require, version
from inference.folding.network import fold
from inference.weights import LoadedNetwork

_INPUT, _OUTPUT = "image", "logits"


class OnnxEngine:
    """See `Engine`.

    Args:
        loaded: the network.
        size: side S of the input.
        precision: `fp32` (which `auto` takes) or `int8`; ONNX Runtime has no short floats on CPUs.
        streams: how many threads will call at once.
        calibration: prepared pictures, each (3, S, S); int8 needs some.

    Raises:
        EngineError: ONNX Runtime (or what converts for it) is not installed, another precision was asked for, or int8
            has no pictures to calibrate on.
    """

    name = "onnxruntime"
    device = torch.device("cpu")
    batch = 1

    def __init__(
        self,
        loaded: LoadedNetwork,
        size: int,
        precision: EnginePrecision,
        streams: int = 1,
        calibration: Sequence[Tensor] = (),
    ) -> None:
        runtime = require("onnxruntime", "--engine onnxruntime")
        if precision in ("bf16", "fp16"):
            raise EngineError(
                f"--precision {precision}: ONNX Runtime does not compute in it on CPUs. Take fp32, int8, or openvino."
            )
        self.precision = "fp32" if precision == "auto" else precision
        self.size, self.streams, self.reason = size, streams, "asked for by name"
        path = _converted(loaded, size, calibration if self.precision == "int8" else None)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = Share.of(streams).threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        check_images(images, self.size)
        (logits,) = self._session.run([_OUTPUT], {_INPUT: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def _converted(loaded: LoadedNetwork, size: int, calibration: Sequence[Tensor] | None) -> Path:
    """The model as a file in the cache; quantised if pictures are given, even none."""
    require("onnx", "--engine onnxruntime")
    parts = ("onnx", loaded.sha256, size, version("onnx"), version("torch"))
    return conversion.converted(
        parts, "model.onnx", lambda path: _convert(loaded, size, path),
        lambda source, path: _quantise(source, calibration or (), path), calibration,
    )  # fmt: skip


def _convert(loaded: LoadedNetwork, size: int, path: Path) -> None:
    onnx = require("onnx", "--engine onnxruntime")
    example = {_INPUT: torch.zeros(2, 3, size, size)}
    dynamic = {_INPUT: {0: torch.export.Dim.DYNAMIC}}
    onnx.save(conversion.to_onnx(fold(loaded.network, size), example, [_OUTPUT], dynamic), path)


def _quantise(source: Path, calibration: Sequence[Tensor], path: Path) -> None:
    onnx = require("onnx", "--engine onnxruntime")
    samples = [{_INPUT: image[None].contiguous().numpy()} for image in calibration]
    onnx.save(conversion.quantise(onnx.load(source), samples, "--precision int8"), path)
