"""How fast is it: checks of gpu_check.py that measure, beside what the device can do at the most."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_checks import Sizes, Values, in_precision, search_settings, training_settings
from nas.step_time import measured, search_step, training_step


def roofline(sizes: Sizes) -> Values:
    """What the device can do: products in bfloat16 (float32 on a CPU) and copies."""
    side, dtype = (8192, torch.bfloat16) if sizes.cuda else (256, torch.float32)
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
        for name in ("bf16", "tf32") if sizes.cuda else ("fp32",):
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
        precision = "bf16" if sizes.cuda and one is config else "fp32"
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
    busy = sum(event.self_device_time_total if sizes.cuda else event.self_cpu_time_total
               for event in found.key_averages()) / 1e6  # fmt: skip
    return {
        "images_per_s": time.images_per_s, "steps_per_s": 1 / time.seconds, "peak_mib": time.memory_mib,
        "busy": min(busy / time.seconds, 1.0), "of_roofline": counter.get_total_flops() / time.seconds / 1e12 / peak,
    }  # fmt: skip


def _drop(result: torch.Tensor) -> None:
    """Forgets a result."""
