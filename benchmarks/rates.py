"""What a processor can do at the most in convolutions, measured; and how many of them a step asks for."""

from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import alternate


def convolution_rate(batch: int, precision: str, layout: torch.memory_format) -> float:
    """10^9 multiply-accumulates a second of a lone 3x3 of 128 channels on 64 x 64 pixels, the median of 20 calls.

    Args:
        batch: images at once.
        precision: `fp32` or `bf16`.
        layout: of image and kernel.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    image = torch.randn(batch, 128, 64, 64, dtype=dtype).to(memory_format=layout)
    kernel = torch.randn(128, 128, 3, 3, dtype=dtype).to(memory_format=layout)
    with torch.inference_mode():
        seconds = alternate({"3x3": lambda: nn.functional.conv2d(image, kernel, padding=1)}, 20)["3x3"]
    return batch * 64 * 64 * kernel.numel() / median(seconds) / 1e9


def work_of(step: Callable[[], object]) -> float:
    """10^9 multiply-accumulates of the convolutions and products of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 2e9
