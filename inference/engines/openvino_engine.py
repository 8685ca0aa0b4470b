"""OpenVINO on the CPU: folded, in float32, bfloat16, float16 or int8."""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from inference.engines import conversion
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, require, version
from inference.folding.network import fold
from inference.weights import LoadedNetwork

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of what is not quantised
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}


class OpenVinoEngine:
    """See `Engine`. Pictures of a batch run one by one, in a fixed shape: as fast as together, and in less memory.

    Args:
        loaded: the network.
        size: side S of the input.
        precision: `auto` takes bfloat16 where the processor computes in it.
        streams: how many threads will call at once.
        calibration: prepared pictures, each (3, S, S); int8 needs some.

    Raises:
        EngineError: OpenVINO (or NNCF) is not installed, the processor lacks the precision that was asked for, or
            int8 has no pictures to calibrate on.
    """

    name = "openvino"
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
        core = require("openvino", "--engine openvino").Core()
        self.precision = _choose(precision, core)
        self.size, self.streams, self.reason = size, streams, "asked for by name"
        path = _converted(loaded, size, calibration if self.precision == "int8" else None)
        model = core.read_model(path)
        model.reshape([1, 3, size, size])
        share = Share.of(streams)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": share.streams * share.threads,
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._requests.put(self._compiled.create_infer_request())

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        check_images(images, self.size)
        request = self._requests.get()
        try:
            return torch.cat([self._one(request, image) for image in images.split(1)])
        finally:
            self._requests.put(request)

    def _one(self, request: Any, image: Tensor) -> Tensor:
        request.infer([image.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())  # (1, 1, S, S)


def capabilities() -> list[str]:
    """What OpenVINO says that this processor can: FP32, BF16, INT8 and more."""
    openvino = require("openvino", "--engine openvino")
    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _choose(precision: EnginePrecision, core: Any) -> str:
    there = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "bf16" if "BF16" in there else "fp32"
    if _CAPABILITIES[precision] not in there:
        known = ", ".join(name for name, capability in _CAPABILITIES.items() if capability in there)
        raise EngineError(f"--precision {precision}: OpenVINO has it not on this processor. It has {known}.")
    return precision


def _converted(loaded: LoadedNetwork, size: int, calibration: Sequence[Tensor] | None) -> Path:
    """The model as a file in the cache; quantised if pictures are given, even none."""
    parts = ("openvino", loaded.sha256, size, version("openvino"), version("torch"))
    return conversion.converted(
        parts, "model.xml", lambda path: _convert(loaded, size, path),
        lambda source, path: _quantise(source, calibration or (), path), calibration,
    )  # fmt: skip


def _convert(loaded: LoadedNetwork, size: int, path: Path) -> None:
    openvino = require("openvino", "--engine openvino")
    batch = torch.export.Dim.DYNAMIC
    example = {"image": torch.zeros(2, 3, size, size)}
    model = conversion.to_openvino(fold(loaded.network, size), example, {"image": {0: batch}})
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantise(source: Path, calibration: Sequence[Tensor], path: Path) -> None:
    openvino = require("openvino", "--engine openvino")
    model = openvino.Core().read_model(source)
    samples = [image[None].contiguous().numpy() for image in calibration]
    openvino.save_model(conversion.quantise(model, samples, "--precision int8"), path)
