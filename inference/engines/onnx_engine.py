"""ONNX Runtime on the CPU, in float32 or int8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.engines import conversion
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, require
from inference.engines.conversion import INPUT, OUTPUT, Format
from inference.weights import LoadedNetwork

OPTION = "--engine onnxruntime"


class OnnxEngine:
    """See `Engine`.

    Args:
        loaded: the network.
        size: side S of the input.
        precision: `fp32` (the default of `auto`) or `int8`; ONNX Runtime has no 16-bit floats on CPUs.
        streams: how many threads will call at once.
        calibration: prepared images, each (3, S, S); int8 needs some.

    Raises:
        EngineError: ONNX Runtime or its converter is not installed, the precision is not available, or int8 has no
            images.
    """

    name = "onnxruntime"
    device = torch.device("cpu")
    batch = 1

    def __init__(
        self, loaded: LoadedNetwork, size: int, precision: EnginePrecision, streams: int = 1,
        calibration: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        require("onnxruntime", OPTION)
        if precision in ("bf16", "fp16"):
            raise EngineError(
                f"--precision {precision}: ONNX Runtime does not compute in it on CPUs. Use fp32, int8, or openvino."
            )
        self.precision = "fp32" if precision == "auto" else precision
        self.size, self.streams, self.reason = size, streams, "named by the user"
        path = conversion.model_file(FORMAT, loaded, size, calibration if self.precision == "int8" else None)
        self._session = open_session(path, streams)

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        check_images(images, self.size)
        (logits,) = self._session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def open_session(model: Path | bytes, streams: int = 1) -> Any:
    """An ONNX Runtime session on the CPU with the settings of this engine.

    Args:
        model: an ONNX file, or its content.
        streams: how many threads will call at once.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    runtime = require("onnxruntime", OPTION)
    options = runtime.SessionOptions()
    # A session has one pool, which all callers share: besides the callers it must hold the threads of every stream.
    options.intra_op_num_threads = Share.of(streams).total - streams + 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _read(path: Path) -> Any:
    return require("onnx", OPTION).load(path)


def _save(model: Any, path: Path) -> None:
    require("onnx", OPTION).save(model, path)


FORMAT = Format(
    package="onnx",
    wanted=OPTION,
    files=("model.onnx",),
    export=lambda network, example, dynamic: conversion.to_onnx(network, example, [OUTPUT], dynamic),
    read=_read,
    save=_save,
    sample=lambda image: {INPUT: image},
)
