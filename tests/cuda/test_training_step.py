"""A step of train.py on the fake CUDA device: devices, types and waits."""

from collections import Counter

import pytest
import torch

import train
from benchmarks.fake_cuda import CUDA, fake_cuda
from net.losses import saliency_loss
from net.settings import LossConfig
from tests.cuda.steps import HERE, SIDE, batch, network, training_run
from training.ema import Average
from training.settings import AverageConfig
from training.step import report
from training.validation import validate
from utils.device import autocast

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize(("precision", "optimizer"), [("fp32", "sgd"), ("bf16", "adamw"), ("fp16", "sgd")])
def test_a_step_does_not_wait(precision, optimizer):
    """Losses and gradients stay on the device, where every state of the run is."""
    own = network()
    with fake_cuda() as record:
        run = training_run(own, precision, optimizer, accumulate=2 if precision == "fp16" else 1)
        step = train.train_step(run, batch())
        assert record.waits == []
        assert {(one.device, one.dtype) for one in step.terms} == {(CUDA, torch.float32)}
        for name, parameter in run.network.named_parameters():
            assert parameter.grad is not None and parameter.grad.device == CUDA, name
            for key, value in run.optimizer.state[parameter].items():
                assert value.device == CUDA, f"{name}: {key}"
        assert {value.device for value in run.average.weights.values()} == {CUDA}
    assert set(record.types) == {DTYPES[precision]}


def test_the_host_waits_once_a_logging_interval():
    own = network()
    with fake_cuda() as record:
        run = training_run(own, "bf16", "sgd", log_every=2)
        for number in range(3):
            step = train.train_step(run, batch())
            run.progress.step += 1
            if step.update is not None:
                assert set(report(run, step)) == {"loss", "images_per_s"}
            assert record.waits == ["readings.py:read"] * ((number + 1) // 2)


def test_the_average_is_one_operator_for_all_weights():
    """One lerp, and a copy of each of BatchNorm's counters; not three operators a tensor."""
    own = network()
    with fake_cuda() as record:
        moved = own.to(CUDA)
        average = Average(moved, AverageConfig(0.9))
        record.operators.clear()
        average.update(moved)
        counters = sum(not value.is_floating_point() for value in average.weights.values())
    assert record.operators["_foreach_lerp_"] == 1 and record.operators["copy_"] == counters
    assert set(record.operators) <= {"_foreach_lerp_", "copy_", "detach", "device"}  # the last two compute nothing
    assert record.waits == []


def test_momentum_is_set_before_the_first_step():
    """The gradient scaler may skip the first step; fused SGD would leave what was in memory."""
    own = network()
    with fake_cuda():
        run = training_run(own, "fp16", "sgd")
        for parameter in run.network.parameters():
            assert run.optimizer.state[parameter]["momentum_buffer"].device == CUDA


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_autocast_narrows_every_edge(precision):
    """Every input of the 31 edges, and the logits in float32: resizing between them keeps the type."""
    seen: list[torch.dtype] = []
    own = network()
    with fake_cuda():
        moved = own.to(CUDA, memory_format=torch.channels_last)
        for cell in moved.cells:
            for edge in (*cell.outer, *cell.inner):
                edge.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
        with autocast(CUDA, precision):
            logits = moved(torch.empty(2, 3, SIDE, SIDE, device=CUDA))
        assert {(one.device, one.dtype) for one in logits} == {(CUDA, torch.float32)}
    assert Counter(seen) == {DTYPES[precision]: 31}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_is_float32_inside_of_autocast(precision):
    with fake_cuda() as record, autocast(CUDA, precision):
        logits = [torch.empty(2, 1, SIDE, SIDE, device=CUDA, dtype=DTYPES[precision]) for _ in range(3)]
        terms = saliency_loss(logits, torch.ones(2, 1, SIDE, SIDE, device=CUDA), LossConfig())
        assert {(one.device, one.dtype) for one in terms} == {(CUDA, torch.float32)}
    assert record.waits == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_waits_once_a_batch(precision):
    own = network()
    with fake_cuda() as record:
        scores = validate(own.to(CUDA), [batch(), batch()], CUDA, precision, HERE)
    assert set(scores) == {"mae", "wfm", "maxf"}
    assert record.waits == ["validation.py:_to_bytes"] * 2
