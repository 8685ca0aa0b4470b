"""Which engine runs: the one that the user names, or the fastest on this machine whose maps are right."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from inference.engines import cache, machine
from inference.engines.base import Engine, EngineError, EngineName, EnginePrecision, installed, notice, version
from inference.engines.calibrated import calibrated_file
from inference.engines.onnx_engine import OnnxEngine
from inference.engines.openvino_engine import OpenVinoEngine, precisions
from inference.engines.preparation import WholeNetwork, identity
from inference.engines.sample_images import prepared_samples
from inference.engines.torch_engine import TorchEngine
from inference.engines.trials import Outcome, race
from inference.memory import keep_memory
from inference.weights import SHIPPED, LoadedNetwork
from utils.device import DeviceError, DeviceName, choose_device, choose_precision

TOLERANCE = 1 / 255
"""Largest mean absolute difference from the float32 maps of the sample images that `auto` accepts: one grey level."""
EXACT = 1e-3
"""The same for a float32 engine that the user names; more is a fault of the engine."""
ATTEMPTS = 3
"""Measurements on a noisy or busy machine after which the last choice is kept."""

FEW = 200
"""Images below which a run measures nothing: converting and trying the engines costs more time than it saves."""

_CPU = torch.device("cpu")
_CHECKED_ON = 2  # sample images that a named engine is checked on

Candidate = tuple[EngineName, EnginePrecision]


def engine_device(engine: EngineName, name: DeviceName) -> torch.device:
    """The device for an engine: OpenVINO and ONNX Runtime compute on the CPU, with a notice where there is a GPU.

    Raises:
        DeviceError: the device is not available.
    """
    device = choose_device(name)
    if name == "auto" and device.type != "cpu" and engine in ("openvino", "onnxruntime"):
        notice(f"--engine {engine} computes on the CPU; the {device.type} device is not used.")
        return _CPU
    return device


def build_engine(
    loaded: LoadedNetwork,
    engine: EngineName = "auto",
    precision: EnginePrecision = "auto",
    device: torch.device = _CPU,
    size: int | None = None,
    calibration: Sequence[Tensor] = (),
    streams: int = 1,
    compile: bool = False,
    images: int | None = None,
) -> Engine:
    """The named engine; `auto` takes the fastest that is installed and whose maps are within `TOLERANCE`.

    A named engine in precision `auto` takes the fastest of its precisions in the same way. For fewer than `FEW` images
    both take the choice of an earlier run, or else float32 without a trial, by PyTorch where no engine is named.

    Args:
        loaded: the network; not changed.
        engine: its name.
        precision: `auto` measures all that are available.
        device: only PyTorch computes on devices other than the CPU.
        size: side S of the input; that of the training if None.
        calibration: prepared images, each (3, S, S), for int8; without them shipped models have a calibrated file for
            OpenVINO, and use the sample images elsewhere.
        streams: how many threads will call at once; 1 has the lowest latency.
        compile: PyTorch only: pass the network to torch.compile, which takes a minute and pays on GPUs.
        images: how many images will be computed; None if that is unknown.

    Raises:
        EngineError, DeviceError: the engine or the precision is not available, or a named engine computes other maps.
    """
    if device.type == "cpu":
        keep_memory()  # before anything is timed, since it changes the times
    wanted = Wanted(
        loaded, engine, precision, device, loaded.size if size is None else size,
        tuple(calibration), streams, compile,
    )  # fmt: skip
    measured = device.type == "cpu" and precision == "auto" and not compile
    if engine != "auto" and not (measured and len(wanted.candidates()) > 1):
        return _checked(wanted, wanted.build(engine, precision))
    if compile:
        return _because(wanted.build("torch", precision), "the only engine for torch.compile")
    if device.type != "cpu":
        return _because(wanted.build("torch", precision), f"the only engine for {device.type}")
    return _remembered(wanted, images)


@dataclass(frozen=True)
class Wanted:
    """What `build_engine` was asked for."""

    loaded: LoadedNetwork
    engine: EngineName
    precision: EnginePrecision
    device: torch.device
    size: int
    calibration: tuple[Tensor, ...]
    streams: int
    compile: bool

    def build(self, engine: EngineName, precision: EnginePrecision) -> Engine:
        """The engine of that name in that precision.

        Raises:
            EngineError, DeviceError: it is not available.
        """
        if engine == "torch":
            return TorchEngine(self.loaded, self.size, precision, self.device, self.streams, self.compile)
        if self.device.type != "cpu":
            raise EngineError(
                f"--engine {engine}: computes on the CPU, but the device is {self.device.type}. "
                f"Use --engine torch, or --device cpu."
            )
        if self.compile:
            raise EngineError(f"--compile: is PyTorch's, not that of --engine {engine}. Leave it out, or use torch.")
        make = OpenVinoEngine if engine == "openvino" else OnnxEngine
        ready = precision != "int8" or (engine == "openvino" and self.ships_int8())
        return make(self.loaded, self.size, precision, self.streams, () if ready else self.samples())

    def ships_int8(self) -> bool:
        """Whether a calibrated file for OpenVINO ships and the user gave no images of their own."""
        return not self.calibration and calibrated_file(self.loaded, self.size) is not None

    def samples(self) -> tuple[Tensor, ...]:
        """Images for int8: the user's, or for shipped models the sample images and their mirror images."""
        if self.calibration or self.loaded.source.parent != SHIPPED:
            return self.calibration
        images = prepared_samples(self.size)
        return tuple(torch.cat([images, images.flip(3)]))

    def candidates(self) -> list[Candidate]:
        """Engines and precisions that `auto` tries: all that are installed and available on this processor.

        int8 is tried with a calibrated file, with images of the user, or where it is asked for. Calibrated on the
        sample images, the maps of `lite` differ by 0.0055 on average, more than `TOLERANCE`. Calibration also takes
        longer than all other trials.
        """
        tried: list[Candidate] = [("torch", "fp32"), ("torch", "bf16")] if _computes_bf16() else [("torch", "fp32")]
        images = self.samples() if self.precision == "int8" else self.calibration
        quantises = installed("nncf") and bool(images)
        if self.engine in ("auto", "openvino") and installed("openvino"):
            there = precisions()
            int8 = ["int8"] if quantises or self.ships_int8() else []
            usual = ("fp32", "bf16", *int8, *(["fp16"] if self.precision == "fp16" else []))
            names: list[EnginePrecision] = [
                name for name in get_args(EnginePrecision) if name in usual and name in there
            ]
            tried.extend(("openvino", name) for name in names)
        if installed("onnxruntime"):
            tried.append(("onnxruntime", "fp32"))
            if quantises:
                tried.append(("onnxruntime", "int8"))
        return [one for one in tried if self.precision in ("auto", one[1]) and self.engine in ("auto", one[0])]

    def key(self, *more: object) -> str:
        """A name for what is measured of this network on this machine."""
        packages = [(name, version(name)) for name in ("openvino", "onnxruntime", "onnx", "nncf") if installed(name)]
        shipped = None if self.calibration else calibrated_file(self.loaded, self.size)
        parts = (image.contiguous().numpy().tobytes() for image in self.calibration)
        images = cache.digest(parts if shipped is None else [shipped.read_bytes()])
        here = (machine.processor(), machine.cores(), torch.get_num_threads(), self.streams, str(self.device))
        return cache.key(identity(self.loaded, self.size), self.engine, self.precision, images, packages, here, *more)


def _computes_bf16() -> bool:
    try:
        return choose_precision("bf16", _CPU) == "bf16"
    except DeviceError:
        return False


def _checked(wanted: Wanted, engine: Engine) -> Engine:
    """A named engine, after its maps were once compared with those of the network.

    Raises:
        EngineError: a float32 engine differs by more than `EXACT`, or any engine gives NaN.
    """
    name = f"check-{wanted.key('check', engine.name, engine.precision, wanted.compile)}"
    difference = (cache.record(name) or {}).get("difference")
    if not isinstance(difference, float):
        images = prepared_samples(wanted.size)[:_CHECKED_ON]
        difference = _difference(engine, images, _exact_maps(wanted, images))
        if not math.isnan(difference):
            cache.store(name, {"difference": difference})
    allowed = EXACT if engine.precision == "fp32" else 1.0
    if not difference <= allowed:
        raise EngineError(
            f"--engine {engine.name}: in {engine.precision} its maps differ from the network's by {difference:.4f} on "
            f"average, more than {allowed}. Use --engine torch, or another version of {engine.name}."
        )
    return _because(engine, f"{engine.reason}, maps within {difference:.5f} of float32's")


def _remembered(wanted: Wanted, images: int | None) -> Engine:
    """The choice that was measured before for this network on this machine, or a new one."""
    record_name = f"choice-{wanted.key('choice', TOLERANCE)}"
    found = cache.record(record_name) or {}
    attempts = found.get("attempts", 0)
    few = images is not None and images < FEW and wanted.precision in ("auto", "fp32")
    if few or found.get("settled") or attempts >= ATTEMPTS:
        engine = _rebuilt(wanted, found)
        if engine is not None:
            return engine
    if few:
        name, what = ("torch", "engines") if wanted.engine == "auto" else (wanted.engine, "precisions")
        return _because(
            wanted.build(name, "fp32"),
            f"{what} are not compared for {images} image{'s' * (images != 1)}; {FEW} or more are worth it",
        )
    busy = machine.busy()
    engine, outcome = _fastest(wanted)
    settled = not (busy or outcome.noisy)
    cause = "the machine was busy" if busy else f"the turns differed by {100 * outcome.spread:.0f} %"
    again = "" if settled else f"; {cause}, so it is measured again at the next start"
    record = {"engine": engine.name, "precision": engine.precision, "reason": engine.reason}
    cache.store(record_name, {**record, "settled": settled, "attempts": attempts + 1})
    return _because(engine, engine.reason + again)


def _rebuilt(wanted: Wanted, found: dict[str, Any]) -> Engine | None:
    """The engine of a record; None if the record is not one, or its engine cannot be built any more."""
    name: Any = found.get("engine")
    precision: Any = found.get("precision")
    reason = found.get("reason")
    if name not in get_args(EngineName) or precision not in get_args(EnginePrecision) or not isinstance(reason, str):
        return None
    try:
        return _because(wanted.build(name, precision), reason)
    except (EngineError, DeviceError):
        return None


def _fastest(wanted: Wanted) -> tuple[Engine, Outcome[Candidate]]:
    """Builds every candidate, keeps those whose maps are right, and lets them race.

    Raises:
        EngineError: no candidate is available, or none is within `TOLERANCE`.
    """
    what = "engine" if wanted.engine == "auto" else f"precision of {wanted.engine}"
    notice(f"measuring which {what} is fastest for {wanted.loaded.source.name} on this machine, once.")
    images = prepared_samples(wanted.size)
    exact, excluded = _exact_maps(wanted, images), list[str]()
    differences: dict[Candidate, float] = {}
    right: dict[Candidate, Engine] = {}
    for candidate in wanted.candidates():
        built = _try_to_build(wanted, candidate, excluded)
        if built is None:
            continue
        differences[candidate] = _difference(built, images, exact)
        if differences[candidate] <= TOLERANCE:
            right[candidate] = built
        else:
            excluded.append(f"{' '.join(candidate)} differs by {differences[candidate]:.4f}")
    if not right:
        raise _no_candidate(wanted, differences)
    outcome = race({candidate: _turn(engine, images) for candidate, engine in right.items()})
    chosen = outcome.winner
    times = {one: 1000 * min(seconds) for one, seconds in outcome.seconds.items()}
    others = [f"{' '.join(one)} {times[one]:.1f}" for one in times if one != chosen]
    beside = f" ({', '.join([*others, *excluded])})" if others or excluded else ""
    reason = f"{times[chosen]:.1f} ms an image here{beside}, maps within {differences[chosen]:.5f} of float32's"
    return _because(right[chosen], reason), outcome


def _try_to_build(wanted: Wanted, candidate: Candidate, excluded: list[str]) -> Engine | None:
    """The engine of a candidate; None if it is not available. `excluded` gets a clause if its library fails."""
    try:
        return wanted.build(*candidate)
    except (EngineError, DeviceError):
        if wanted.precision == "int8" and not wanted.samples():
            raise
    except Exception as error:  # the libraries raise many classes
        if candidate[0] == "torch":
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        excluded.append(f"{' '.join(candidate)} failed: {lines[0][:80]}")
    return None


def _no_candidate(wanted: Wanted, differences: dict[Candidate, float]) -> EngineError:
    if not differences:
        return EngineError(
            f"--precision {wanted.precision}: no installed engine supports it here. Use auto or fp32, or name an "
            f"engine to see what it needs."
        )
    best = min(differences, key=lambda one: differences[one])
    return EngineError(
        f"--precision {wanted.precision}: the maps differ from float32's by {differences[best]:.4f} on average, more "
        f"than {TOLERANCE:.4f}. Name the engine to use it nevertheless (--engine {best[0]}), or use auto."
    )


@torch.inference_mode()
def _exact_maps(wanted: Wanted, images: Tensor) -> Tensor:
    """Maps of the network itself, in float32: (B, 1, S, S)."""
    whole = WholeNetwork(wanted.loaded.network)
    return torch.cat([whole(image) for image in images.split(1)]).sigmoid()


def _difference(engine: Engine, images: Tensor, exact: Tensor) -> float:
    """Mean absolute difference of an engine's maps; also its first call, which is slower than the later ones."""
    return (engine(images).sigmoid() - exact).abs().mean().item()


def _turn(engine: Engine, images: Tensor) -> Any:
    """A call that runs one batch on every stream of an engine and returns its seconds per image."""
    parts = [images[: engine.batch]] * engine.streams

    def run() -> float:
        with ThreadPoolExecutor(engine.streams) as threads:
            start = time.perf_counter()
            list(threads.map(engine, parts))
            return (time.perf_counter() - start) / sum(map(len, parts))

    return run


def _because(engine: Engine, reason: str) -> Engine:
    engine.reason = reason
    return engine
