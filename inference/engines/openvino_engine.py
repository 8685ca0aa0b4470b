"""OpenVINO on the CPU, in float32, bfloat16, float16 or int8."""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from inference.engines import conversion
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, require
from inference.engines.calibrated import calibrated_file
from inference.engines.conversion import Format
from inference.weights import LoadedNetwork

OPTION = "--engine openvino"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of the layers that stay unquantised
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}


class OpenVinoEngine:
    """See `Engine`. Images of a batch run one by one, in a fixed shape: as fast as together, in less memory.

    Args:
        loaded: the network.
        size: side S of the input.
        precision: `auto` takes bfloat16 if the processor computes in it.
        streams: how many threads will call at once.
        calibration: prepared images, each (3, S, S); int8 needs some, unless a calibrated file ships.

    Raises:
        EngineError: OpenVINO or NNCF is not installed, the processor does not support the precision, or int8 has no
            images.
    """

    name = "openvino"
    device = torch.device("cpu")
    batch = 1

    def __init__(
        self, loaded: LoadedNetwork, size: int, precision: EnginePrecision, streams: int = 1,
        calibration: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self.precision = choose(precision)
        self.size, self.streams, self.reason = size, streams, "named by the user"
        path = calibrated_file(loaded, size) if self.precision == "int8" and not calibration else None
        if path is None:
            path = conversion.model_file(FORMAT, loaded, size, calibration if self.precision == "int8" else None)
        self._compiled = compile_model(path, size, self.precision, streams)
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


def compile_model(model: Path | bytes, size: int, precision: str, streams: int = 1) -> Any:
    """A network compiled by OpenVINO for the CPU with the settings of this engine.

    Args:
        model: a file that OpenVINO reads, or the content of an ONNX file.
        size: side S of the input; one image (1, 3, S, S) at a time.
        precision: one of `precisions()`.
        streams: how many threads will call at once.

    Raises:
        EngineError: OpenVINO is not installed.
    """
    core = require("openvino", OPTION).Core()
    network = core.read_model(model)
    network.reshape([1, 3, size, size])
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": Share.of(streams).total,
    }
    return core.compile_model(network, "CPU", settings)


def precisions() -> list[str]:
    """Precisions that OpenVINO supports on this processor, of `fp32`, `bf16`, `fp16` and `int8`.

    Raises:
        EngineError: if OpenVINO is not installed.
    """
    there = require("openvino", OPTION).Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name, capability in _CAPABILITIES.items() if capability in there]


def choose(precision: EnginePrecision) -> str:
    """The precision of that name; `auto` takes bfloat16 if the processor computes in it.

    Raises:
        EngineError: the processor does not support it.
    """
    there = precisions()
    if precision == "auto":
        return "bf16" if "bf16" in there else "fp32"
    if precision not in there:
        raise EngineError(
            f"--precision {precision}: OpenVINO does not support it on this processor. Use {', '.join(there)}."
        )
    return precision


def _read(path: Path) -> Any:
    return require("openvino", OPTION).Core().read_model(path)


def _save(model: Any, path: Path) -> None:
    require("openvino", OPTION).save_model(model, path, compress_to_fp16=False)


FORMAT = Format(
    package="openvino",
    wanted=OPTION,
    files=("model.xml", "model.bin"),
    export=conversion.to_openvino,
    read=_read,
    save=_save,
    sample=lambda image: image,
)
