"""The steps of the strategies but `darts` on the fake CUDA device: devices, types and waits."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.fake_cuda import CUDA, fake_cuda
from nas.settings import SearchConfig
from nas.strategies.account import Account
from nas.strategies.single_path import single_path
from nas.strategies.task import Recipe, Task, p1_iou
from tests.cuda.steps import NOWHERE, batch, network, supernet

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RECIPE = Recipe(4, 1e-3, 1e-4, 1e-2)


def task(precision):
    """As search.py makes it, without images and without a space: the steps get theirs."""
    absent = SimpleNamespace()
    return Task(SearchConfig(out=NOWHERE), CUDA, precision, absent, (), absent, Account(), 1e9)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_a_single_path(precision):
    """Of `oneshot`, and of the warm-up of `darts`: the candidates that were not chosen get no gradient."""
    own, here = supernet(), task(precision)
    names = ["sep_conv_3x3" if number % 2 else "skip_connect" for number in range(31)]
    with fake_cuda() as record:
        own.to(CUDA).joined = True
        for alpha in own.alphas():
            alpha.requires_grad_(False)
        optimizer = RECIPE.optimizer(own)
        record.waits.clear()
        with single_path(own, names):
            loss = RECIPE.step(optimizer, own, here.loss(own, here.to_device(batch())), 0)
        assert record.waits == [] and (loss.device, loss.dtype) == (CUDA, torch.float32)
        for number, (_, mixture) in enumerate(own.mixtures()):
            moved = [kernel for one in mixture.candidates for kernel in one.parameters() if kernel.grad is not None]
            assert len(moved) == (2 if number % 2 else 0) and {kernel.device for kernel in moved} <= {CUDA}
    assert set(record.types) == {DTYPES[precision]}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_short_training_and_its_score(precision):
    """Of `random` and `predictor`: a step waits for nothing, a score once."""
    own, here = network(), task(precision)
    with fake_cuda() as record:
        own.to(CUDA, memory_format=torch.channels_last).train()
        images = here.to_device(batch(40))  # more than one part
        optimizer = RECIPE.optimizer(own)
        RECIPE.step(optimizer, own, here.loss(own, here.to_device(batch())), 0)
        assert record.waits == []
        own.eval()
        assert p1_iou(here, own, images) == 1.0  # the dummy of the one value that was read
    assert record.waits == ["task.py:p1_iou"] and set(record.types) == {DTYPES[precision]}
