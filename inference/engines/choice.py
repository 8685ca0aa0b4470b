"""Which engine runs: the one that was asked for, or the fastest whose maps hold on this machine."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import data
from data.image_io import read_image
from data.transforms import prepare_image
from inference.engines import cache
from inference.engines.base import Engine, EngineError, EngineName, EnginePrecision, installed, version
from inference.engines.onnx_engine import OnnxEngine
from inference.engines.openvino_engine import OpenVinoEngine
from inference.engines.torch_engine import TorchEngine
from inference.weights import LoadedNetwork
from utils.device import DeviceError, banner

TOLERANCE = 1 / 255
"""Mean absolute difference from the float32 maps, over the sample photographs, that `auto` takes: one grey level."""

_CPU = torch.device("cpu")
_RUNS = 3


def build_engine(
    loaded: LoadedNetwork,
    engine: EngineName = "auto",
    precision: EnginePrecision = "auto",
    device: torch.device = _CPU,
    size: int | None = None,
    calibration: Sequence[Tensor] = (),
    streams: int = 1,
    compile: bool = False,
) -> Engine:
    """The engine of that name; `auto` takes the fastest that is installed and whose maps hold.

    Args:
        loaded: the network; left as it is.
        engine: which one.
        precision: `auto` takes bfloat16 where the processor computes in it.
        device: only PyTorch computes on others than the CPU.
        size: side S of the input; that of the training if None.
        calibration: prepared pictures, each (3, S, S); int8 is calibrated on them.
        streams: how many threads will call at once; 1 is for the shortest wait.
        compile: PyTorch alone: hand the network to torch.compile, which takes a minute and pays on GPUs.

    Raises:
        EngineError, DeviceError: what was asked for by name is not to be had here.
    """
    wanted = _Wanted(
        loaded, precision, device, loaded.size if size is None else size, tuple(calibration), streams, compile
    )
    if engine != "auto":
        return wanted.build(engine, precision)
    if compile:
        return _because(wanted.build("torch", precision), "the only one that torch.compile knows")
    if device.type != "cpu":
        return _because(wanted.build("torch", precision), f"the only one for {device.type}")
    return _remembered(wanted)


@dataclass(frozen=True)
class _Wanted:
    loaded: LoadedNetwork
    precision: EnginePrecision
    device: torch.device
    size: int
    calibration: tuple[Tensor, ...]
    streams: int
    compile: bool

    def build(self, engine: EngineName, precision: EnginePrecision) -> Engine:
        """That engine in that precision."""
        if engine == "torch":
            return TorchEngine(self.loaded.network, self.size, precision, self.device, self.streams, self.compile)
        if self.device.type != "cpu":
            raise EngineError(
                f"--engine {engine}: computes on the CPU, but the device is {self.device.type}. "
                f"Use --engine torch, or --device cpu."
            )
        if self.compile:
            raise EngineError(f"--compile: is PyTorch's, not that of --engine {engine}. Leave it out, or take torch.")
        make = OpenVinoEngine if engine == "openvino" else OnnxEngine
        return make(self.loaded, self.size, precision, self.streams, self.calibration)


@dataclass(frozen=True)
class _Trial:
    engine: Engine
    milliseconds: float  # a picture
    difference: float  # mean absolute, from float32 maps

    def __str__(self) -> str:
        return f"{self.engine.name} {self.engine.precision} {self.milliseconds:.1f}"


def _remembered(wanted: _Wanted) -> Engine:
    """The choice that was made before for this network on this machine, or a new one."""
    made: list[Engine] = []

    def choose(folder: Path) -> None:
        made.append(_fastest(wanted))
        record = {"engine": made[0].name, "precision": made[0].precision, "reason": made[0].reason}
        (folder / "choice.json").write_text(json.dumps(record), encoding="utf-8")

    packages = [(name, version(name)) for name in ("torch", "openvino", "onnxruntime", "onnx") if installed(name)]
    pictures = cache.digest(image.contiguous().numpy().tobytes() for image in wanted.calibration)
    machine = (banner(_CPU, wanted.precision), wanted.streams, TOLERANCE)
    name = cache.key("choice", wanted.loaded.sha256, wanted.size, pictures, packages, machine)
    folder = cache.cached(name, choose, ["choice.json"])
    if made:
        return made[0]
    record = json.loads((folder / "choice.json").read_text(encoding="utf-8"))
    return _because(wanted.build(record["engine"], record["precision"]), record["reason"])


def _fastest(wanted: _Wanted) -> Engine:
    """Tries all that is installed on the sample photographs."""
    images = _photographs(wanted.size)
    with torch.inference_mode():
        truth = torch.cat([wanted.loaded.network(image).p1 for image in images.split(1)]).sigmoid()
    optional: tuple[EngineName, ...] = ("openvino", "onnxruntime")
    names: list[EngineName] = ["torch", *(name for name in optional if installed(name))]
    bar = tqdm(names, desc="trying engines, once for this network", unit="engine", disable=None, leave=False)
    failed: list[str] = []
    trials = [trial for name in bar for trial in _trials(wanted, name, images, truth, failed)]
    good = sorted((t for t in trials if t.difference <= TOLERANCE), key=lambda trial: trial.milliseconds)
    if not trials:
        raise EngineError(f"--precision {wanted.precision}: none of {', '.join(names)} has it here. Use auto or fp32.")
    if not good:
        best = min(trials, key=lambda trial: trial.difference)
        raise EngineError(
            f"--precision {wanted.precision}: the maps differ from float32's by {best.difference:.4f} on average, more "
            f"than {TOLERANCE:.4f}. Name the engine to take it nevertheless (--engine {best.engine.name}), or use auto."
        )
    chosen, others = good[0], [*(str(trial) for trial in trials if trial is not good[0]), *failed]
    beside = f" ({', '.join(others)})" if others else ""
    reason = f"{chosen.milliseconds:.1f} ms a picture here{beside}, maps within {chosen.difference:.5f} of float32's"
    return _because(chosen.engine, reason)


def _trials(wanted: _Wanted, name: EngineName, images: Tensor, truth: Tensor, failed: list[str]) -> list[_Trial]:
    """An engine at its fastest; in float32 too if its maps do not hold there and the precision is left open.

    An optional engine that fails, whatever its library raises, is left out; `failed` gets a clause that says so.
    """
    try:
        trial = _try(wanted.build(name, wanted.precision), images, truth)
        if trial.difference > TOLERANCE and wanted.precision == "auto":
            return [trial, _try(wanted.build(name, "fp32"), images, truth)]
    except (EngineError, DeviceError):
        if wanted.precision == "int8" and not wanted.calibration:
            raise
        return []
    except Exception as error:
        if name == "torch":
            raise
        failed.append(f"{name} failed: {(str(error).splitlines() or [type(error).__name__])[0][:80]}")
        return []
    return [trial]


def _try(engine: Engine, images: Tensor, truth: Tensor) -> _Trial:
    difference = (engine(images).sigmoid() - truth).abs().mean().item()
    parts = [images[: engine.batch]] * engine.streams
    times: list[float] = []
    with ThreadPoolExecutor(engine.streams) as threads:
        for _ in range(_RUNS):
            start = time.perf_counter()
            list(threads.map(engine, parts))
            times.append(time.perf_counter() - start)
    return _Trial(engine, 1000 * min(times) / sum(map(len, parts)), difference)


def _photographs(size: int) -> Tensor:
    """The sample photographs, prepared: (B, 3, S, S)."""
    folder = Path(data.__file__).parent / "samples"
    return torch.stack([prepare_image(read_image(path), size) for path in sorted(folder.glob("*.jpg"))])


def _because(engine: Engine, reason: str) -> Engine:
    engine.reason = reason
    return engine
