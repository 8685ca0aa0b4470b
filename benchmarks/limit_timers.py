"""Times single operations alone: every library and layout, all cores in one call or a call on each core."""

import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from statistics import fmean, median
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.workload import Convolution, Operation, Product, torch_dtypes
from inference.engines.base import installed
from inference.engines.openvino_engine import precisions
from inference.engines.packing import NONE, PackedConv, unavailable
from inference.memory import keep_memory
from net.cpu_kernels import FastDepthwise, depthwise_gradients
from training.precision import candidates
from utils.hardware import usable_cores

Seconds = dict[str, float]
LEAST = 0.02
"""Seconds that the calls of a way take at least, so that short operations are called more often."""
AT_MOST = 50
"""Calls of a way."""


def measure(operations: Sequence[Operation], precision: str, rounds: int) -> dict[Operation, Seconds]:
    """Seconds of each operation, by way, the whole machine working on it.

    Args:
        operations: what is timed.
        precision: fp32, bf16 or int8.
        rounds: calls of a way at least, of which the median counts.

    Returns:
        Way to seconds for each operation; no way where no library here computes in that precision.
    """
    cores = usable_cores()
    arrangements = {"all cores": (1, cores), "a call a core": (cores, 1)} if cores > 1 else {"one core": (1, 1)}
    result: dict[Operation, Seconds] = {operation: {} for operation in operations}
    for label, (processes, threads) in arrangements.items():
        answers = _side_by_side(operations, precision, rounds, processes, threads)
        for index, operation in enumerate(operations):
            for way in answers[0][index]:
                shared = fmean(answer[index][way] for answer in answers) / processes
                result[operation][f"{way}, {label}"] = shared
    return result


def _side_by_side(
    operations: Sequence[Operation], precision: str, rounds: int, processes: int, threads: int
) -> list[list[Seconds]]:
    """What each of some processes measures while the others compute the same operation."""
    context = get_context("spawn")
    barrier, answers = context.Barrier(processes), context.SimpleQueue()
    job = (list(operations), precision, rounds, threads, barrier, answers)
    workers = [context.Process(target=_time_all, args=job, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    result = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    failed = [answer for answer in result if isinstance(answer, str)]
    if failed:
        raise RuntimeError(failed[0])
    return result


def _time_all(
    operations: list[Operation], precision: str, rounds: int, threads: int, barrier: Any, answers: Any
) -> None:
    """The program of a process: puts the seconds of every operation, or the text of what went wrong."""
    torch.set_num_threads(threads)
    keep_memory()
    try:
        answers.put([_time_one(operation, precision, rounds, barrier) for operation in operations])
    except Exception as error:
        barrier.abort()
        answers.put(f"{type(error).__name__}: {error}")


def _time_one(operation: Operation, precision: str, rounds: int, barrier: Any) -> Seconds:
    seconds: Seconds = {}
    for way, timed in ways_of(operation, precision).items():
        barrier.wait()
        seconds[way] = timed(rounds)
    return seconds


def ways_of(operation: Operation, precision: str) -> dict[str, Callable[[int], float]]:
    """The ways of computing an operation, each a function from rounds to seconds."""
    if isinstance(operation, Convolution):
        found = {}
        if precision in candidates(torch.device("cpu")):
            found |= {
                way: _timer(call) for way, call in _torch_convolutions(operation, torch_dtypes[precision]).items()
            }
        if operation.gradients is None and installed("openvino") and precision in precisions():
            found["openvino"] = _openvino_convolution(operation, precision)
        return found
    if isinstance(operation, Product):
        dtype = torch_dtypes.get(precision, torch.float32)
        left, right = (torch.randn(shape).to(dtype) for shape in (operation.left, operation.right))
        return {"torch": _timer(lambda: torch.matmul(left, right))}
    half = torch.zeros(max(1, operation.bytes // 2), dtype=torch.uint8)
    other = torch.zeros_like(half)
    return {"copy": _timer(lambda: other.copy_(half))}


def _timer(call: Callable[[], object]) -> Callable[[int], float]:
    def seconds(rounds: int) -> float:
        with torch.inference_mode():
            call()
            taken: list[float] = []
            while len(taken) < rounds or (sum(taken) < LEAST and len(taken) < AT_MOST):
                begin = time.perf_counter()
                call()
                taken.append(time.perf_counter() - begin)
        return median(taken)

    return seconds


def _torch_convolutions(one: Convolution, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    x, weight = torch.randn(one.x).to(dtype), torch.randn(one.weight).to(dtype)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight)]
    steps = (one.stride, one.padding, one.dilation, one.groups)
    layouts = {"contiguous": [x, weight], "channels last": last}
    if one.gradients is not None:
        return _gradients(one, layouts)
    calls: dict[str, Callable[[], object]] = {
        f"torch {name}": lambda pair=pair: F.conv2d(pair[0], pair[1], None, *steps) for name, pair in layouts.items()
    }
    if not unavailable():
        packed = PackedConv(_module(one, dtype), NONE, last[0].shape)
        calls["torch packed"] = lambda: packed(last[0])
    return calls


def _gradients(one: Convolution, layouts: dict[str, list[Tensor]]) -> dict[str, Callable[[], object]]:
    calls: dict[str, Callable[[], object]] = {}
    wanted = [*(one.gradients or ()), False]
    shape = (one.x[0], one.weight[0], one.out_side(0), one.out_side(1))
    for name, (x, weight) in layouts.items():
        gradient = torch.randn(shape).to(x.dtype)
        if name == "channels last":
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        calls[f"torch {name}"] = lambda g=gradient, x=x, weight=weight: torch.ops.aten.convolution_backward(
            g, x, weight, None, one.stride, one.padding, one.dilation, False, [0, 0], one.groups, wanted
        )
        if one.depthwise and _fits(one):
            calls[f"ours {name}"] = lambda g=gradient, x=x, weight=weight: depthwise_gradients(
                g, x, weight, one.stride[0], (wanted[0], wanted[1])
            )
    return calls


def _fits(one: Convolution) -> bool:
    return FastDepthwise.fits(_module(one, torch.float32))


def _module(one: Convolution, dtype: torch.dtype) -> nn.Conv2d:
    kernel = (one.weight[2], one.weight[3])
    steps = (one.stride, one.padding, one.dilation, one.groups)
    return nn.Conv2d(one.x[1], one.weight[0], kernel, *steps, bias=False, dtype=dtype).requires_grad_(False)


def _openvino_convolution(one: Convolution, precision: str) -> Callable[[int], float]:
    """The time of the convolution's own node, one image after the other; times the batch."""
    import openvino as ov
    from openvino import opset13 as ops

    channels = one.x[1]
    x = ops.parameter([1, *one.x[1:]], numpy.float32)
    weight = ops.constant(numpy.random.default_rng(0).standard_normal(one.weight).astype(numpy.float32))
    source: Any = x
    if precision == "int8":
        low, high = numpy.float32(-4.0), numpy.float32(4.0)
        source = ops.fake_quantize(x, low, high, low, high, 256)
        weight = ops.fake_quantize(weight, low, high, low, high, 255)
    pads = list(one.padding)
    if one.groups == 1:
        node = ops.convolution(source, weight, list(one.stride), pads, pads, list(one.dilation))
    else:
        grouped = ops.reshape(
            weight, numpy.array([one.groups, one.weight[0] // one.groups, *one.weight[1:]], numpy.int64), False
        )
        node = ops.group_convolution(source, grouped, list(one.stride), pads, pads, list(one.dilation))
    model = ov.Model([ops.relu(node)], [x], "one")  # pyright: ignore[reportGeneralTypeIssues]
    hints = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
    settings = {
        "INFERENCE_PRECISION_HINT": hints[precision], "NUM_STREAMS": 1, "PERF_COUNT": True,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }  # fmt: skip
    compiled: Any = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    image = numpy.random.default_rng(0).standard_normal((1, channels, *one.x[2:])).astype(numpy.float32)

    def seconds(rounds: int) -> float:
        request.infer([image])
        taken: list[float] = []
        while len(taken) < rounds or (sum(taken) < LEAST and len(taken) < AT_MOST):
            request.infer([image])
            nodes = [info for info in request.profiling_info if "Convolution" in info.node_type]
            taken.append(sum(info.real_time.total_seconds() for info in nodes))
        return one.x[0] * median(taken)

    return seconds
