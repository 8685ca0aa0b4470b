"""Precision by measurement: `auto` times the supported precisions on the real network, shape and batch.

A processor that computes in bfloat16 need not be faster in it: without AMX, AVX512-BF16 trains ResNet-50 at .82 times
the speed of float32. The fastest precision is taken whose loss is within `TOLERANCE` of float32's; another one than
float32 must be faster by `MARGIN`, so that noise does not decide.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from training.session import Session
from utils.device import DeviceError, choose_precision
from utils.hardware import Precision

Name = Literal["fp32", "tf32", "bf16", "fp16"]
SECONDS = 3.0
TOLERANCE = 0.02
MARGIN = 0.05


class Timing(NamedTuple):
    """Shortest time of one step in seconds, and its loss."""

    seconds: float
    loss: float


def candidates(device: torch.device) -> list[Name]:
    """Precisions that `auto` compares on a device, float32 first."""
    try:
        return ["fp32", choose_precision("bf16", device)]
    except DeviceError:
        return ["fp32"]


def measure(
    names: Sequence[Name], step: Callable[[Name], float], seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:  # fmt: skip
    """Times a step in each precision, in turns, for about `seconds` in all and at least two turns.

    Args:
        names: of the precisions.
        step: computes one step and returns its loss, when the device has finished.
        seconds: budget; the first turn, which warms up, counts.
        clock: seconds since some moment.
    """
    best: dict[Name, Timing] = {}
    start = clock()
    for turn in range(1000):
        for name in names:
            before = clock()
            loss = step(name)
            spent = clock() - before
            if turn == 1 or (turn > 1 and spent < best[name].seconds):
                best[name] = Timing(spent, loss)
        if turn >= 1 and clock() - start >= seconds:
            break
    return best


def fastest(timings: Mapping[Name, Timing]) -> Name:
    """The fastest precision within the tolerance, see the module."""
    reference = timings["fp32"]
    chosen: Name = "fp32"
    for name, timing in timings.items():
        exact = abs(timing.loss - reference.loss) <= TOLERANCE * abs(reference.loss)
        if exact and timing.seconds < min(timings[chosen].seconds, (1 - MARGIN) * reference.seconds):
            chosen = name
    return chosen


def describe(timings: Mapping[Name, Timing], chosen: Name) -> str:
    """The measurement in one line."""
    reference = timings["fp32"].loss
    parts = [
        f"{name} {1000 * timing.seconds:.0f} ms"
        + (f" (loss {(timing.loss - reference) / reference:+.2%})" if name != "fp32" else "")
        for name, timing in timings.items()
    ]
    return f"precision auto: {', '.join(parts)} a step -> {chosen}"


def trial(
    network: nn.Module, loss: Callable[[Tensor, Tensor, Name], Tensor], batch: int, size: int, device: torch.device,
    seconds: float = SECONDS,
) -> dict[Name, Timing]:  # fmt: skip
    """Times forward and backward passes of a network on noise; the network and the random state are as before.

    Args:
        network: in the mode that it trains in.
        loss: (image (B, 3, S, S), mask (B, 1, S, S), precision) -> scalar.
        batch: images at once, B.
        size: side of the images in pixels, S.
        device: where the network is.
        seconds: see `measure`.
    """
    names = candidates(device)
    if len(names) == 1:
        return {names[0]: Timing(0.0, 0.0)}
    noise = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, size, size, generator=noise).to(device, memory_format=torch.channels_last)
    mask = (torch.rand(batch, 1, size, size, generator=noise) > 0.5).float().to(device)

    def step(name: Name) -> float:
        choose_precision(name, device)  # on CUDA it also sets what float32 means
        network.zero_grad(set_to_none=True)
        value = loss(image, mask, name)
        value.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return value.item()

    state = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            return measure(names, step, seconds)
        finally:
            network.load_state_dict(state)
            network.zero_grad(set_to_none=True)


def settle(stated: Precision, session: Session, measured: Callable[[torch.device], Mapping[Name, Timing]]) -> Name:
    """The precision of a run: as stated, else that of its checkpoint, else the fastest measured. Communicates.

    Args:
        stated: by the settings.
        session: of the run, before it is restored.
        measured: (device) -> timings; called in a new run with `auto` only. All processes take the first one's choice.

    Raises:
        DeviceError: if the device does not support the stated precision.
    """
    processes, saved = session.processes, session.saved
    with processes.agreeing():
        if stated == "auto" and saved is not None:
            stated = saved["found"].get("precision", "auto")
        if stated != "auto":
            return choose_precision(stated, processes.device)
        timings = measured(processes.device)
        fast: Name = fastest(timings)
    choices: list[Name] = processes.gather(fast)
    chosen = choices[0]
    if len(timings) > 1:
        processes.print_once(describe(timings, chosen))
    return choose_precision(chosen, processes.device)
