"""OpenVINO on the CPU, in float32, bfloat16, float16 or int8."""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.engines import conversion
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, require
from inference.engines.calibrated import calibrated_file
from inference.engines.conversion import Format
from inference.weights import LoadedNetwork
from utils.hardware import usable_cores

OPTION = "--engine openvino"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of the layers that stay unquantised
_HEAVY, _TOGETHER = 16 << 20, 4  # bytes of weights above which images are computed together, and how many
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}


class OpenVinoEngine:
    """See `Engine`. Shapes are fixed, images channels last.

    Images of a batch run one by one: as fast as together, in less memory. Those of a network whose weights no cache
    holds run in fours, which read the weights once.

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

    def __init__(
        self, loaded: LoadedNetwork, size: int, precision: EnginePrecision, streams: int = 1,
        calibration: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self.precision = choose(precision)
        self.size, self.streams, self.reason = size, streams, "named by the user"
        path = calibrated_file(loaded, size) if self.precision == "int8" and not calibration else None
        if path is None:
            path = conversion.model_file(FORMAT, loaded, size, calibration if self.precision == "int8" else None)
        heavy = path.with_suffix(".bin").stat().st_size > _HEAVY
        self.batch = _TOGETHER if heavy and streams > 1 else 1  # a single stream is called for its latency
        self._requests = {count: self._opened(path, count) for count in {1, self.batch}}

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        check_images(images, self.size)
        whole = len(images) - len(images) % self.batch
        parts = [*images[:whole].split(self.batch), *images[whole:].split(1)]
        return torch.cat([self._infer(part) for part in parts if len(part)])

    def _opened(self, path: Path, count: int) -> "Requests":
        """The network for so many images at once."""
        compiled = compile_model(path, self.size, self.precision, self.streams, count, channels_last=True)
        return Requests(compiled, self.streams)

    def _infer(self, images: Tensor) -> Tensor:
        """Logits (B, 1, S, S) of images (B, 3, S, S)."""
        return torch.from_numpy(self._requests[len(images)](images.permute(0, 2, 3, 1).contiguous().numpy()))


class Requests:
    """A compiled network that several threads may call at once: a request serves one of them at a time.

    Args:
        compiled: see `compile_model`.
        streams: how many threads will call at once.
    """

    def __init__(self, compiled: Any, streams: int) -> None:
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's first output, by a request that is free.

        Shapes:
            images: as the network was compiled for, contiguous.
            returns: that of the output.
        """
        request = self._free.get()
        try:
            request.infer([images], share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            self._free.put(request)


def compile_model(
    model: Path | bytes, size: int, precision: str, streams: int = 1, batch: int = 1, channels_last: bool = False
) -> Any:
    """A network compiled by OpenVINO for the CPU with the settings of this engine.

    Args:
        model: a file that OpenVINO reads, or the content of an ONNX file.
        size: side S of the input.
        precision: one of `precisions()`.
        streams: how many threads will call at once.
        batch: images B of a call.
        channels_last: whether it takes (B, S, S, 3) instead of (B, 3, S, S); kernels read the former without a copy.

    Raises:
        EngineError: OpenVINO is not installed.
    """
    openvino = require("openvino", OPTION)
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape([batch, 3, size, size])
    if channels_last:
        steps = openvino.preprocess.PrePostProcessor(network)
        steps.input().tensor().set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        network = steps.build()
    threads = Share.of(streams).total
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # Bound to cores, the threads of every process of torchrun would take the first ones.
        "ENABLE_CPU_PINNING": threads >= usable_cores(),
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
