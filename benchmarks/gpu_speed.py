"""How fast is it: checks of gpu_check.py that measure, beside what the device can do at the most."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_checks import Sizes, Values, in_precision, search_settings, training_settings
from benchmarks.workload import torch_dtypes
from nas.step_time import measured, search_step, training_step


def roofline(sizes: Sizes) -> Values:
    """What the device can do: products in bfloat16 (float32 where it has none, and on a CPU) and copies."""
    side, dtype = 8192 if sizes.cuda else 256, torch_dtypes.get(sizes.fast()[0], torch.float32)
    one = torch.randn(side, side, device=sizes.device, dtype=dtype)
    copied = torch.empty_like(one)
    product = measured(lambda: _drop(one @ one), 1, sizes.device, sizes.steps, 3).seconds
    copying = measured(lambda: _drop(copied.copy_(one)), 1, sizes.device, sizes.steps, 3).seconds
    return {"tflops": 2 * side**3 / product / 1e12, "gb_per_s": 2 * one.nbytes / copying / 1e9}


def train_speed(sizes: Sizes) -> Values:
    """Training of both backbones, batch 32: images/s, memory, and the share of the roofline."""
    peak = roofline(sizes)["tflops"]
    found: Values = {}
    for backbone in ("resnet50", "vgg16"):
        config = replace(training_settings(sizes), network=sizes.network(backbone))
        for name in sizes.fast():
            with in_precision(name, sizes.device):
                step = training_step(config, sizes.device, name)
                found[f"{backbone} {name}"] = _speed(step, config.batch, sizes, peak)
    return found


def search_speed(sizes: Sizes) -> Values:
    """A bilevel step of the search, batch 8, edges joined and one by one; and of the second order."""
    peak = roofline(sizes)["tflops"]
    config, found = search_settings(sizes), {}
    second = replace(config, architect=replace(config.architect, order="second"))
    cases = [("joined", config, True), ("one by one", config, False), ("second order, joined", second, True)]
    for name, one, together in cases:
        precision = sizes.fast()[0] if one is config else "fp32"
        with in_precision(precision, sizes.device):
            found[f"{name} {precision}"] = _speed(
                search_step(one, sizes.device, precision, joined=together), one.batch, sizes, peak
            )
    return found


def _speed(step: Callable[[], None], images: int, sizes: Sizes, peak: float) -> Values:
    """Speed and memory of a step; the share of time in kernels; its arithmetic against the greatest measured rate."""
    time = measured(step, images, sizes.device, sizes.steps, 1 if sizes.small else 5)
    with FlopCounterMode(display=False) as counter:
        step()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if sizes.cuda else [])]
    with profile(activities=kinds) as found:
        step()
        if sizes.cuda:
            torch.cuda.synchronize(sizes.device)
    recorded: Any = found.profiler
    share = busy(recorded.kineto_results.events(), sizes.device.type) / time.seconds
    return {
        "images_per_s": time.images_per_s, "steps_per_s": 1 / time.seconds, "peak_mib": time.memory_mib,
        "busy": min(share, 1.0), "of_roofline": counter.get_total_flops() / time.seconds / 1e12 / peak,
    }  # fmt: skip


def busy(events: Iterable[Any], device: str) -> float:
    """Seconds that the events of a device cover, nested ones once; without annotations, which compute nothing.

    From the events as PyTorch records them: `key_averages` takes twenty times as long, and on a GPU its own times hold
    a kernel twice, as an event and in the operator that launched it.

    Args:
        events: of a profile; those of one thread or stream lie inside each other or apart.
        device: `cpu` or `cuda`.
    """
    spans = sorted(
        (event.device_resource_id(), event.start_ns(), -event.duration_ns())
        for event in events if event.device_type().name == device.upper() and not event.is_user_annotation()
    )  # fmt: skip
    total, place, end = 0, -1, 0
    for resource, start, negative in spans:
        if resource != place or start >= end:
            total, place, end = total - negative, resource, start - negative
    return total / 1e9


def _drop(result: torch.Tensor) -> None:
    """Forgets a result."""
