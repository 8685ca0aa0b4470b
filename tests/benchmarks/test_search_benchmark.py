"""The benchmark's two sides compute the same: the plain mixture is ours, and a plain step moves the same alphas."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from benchmarks.limits import Limit
from benchmarks.search import PlainMixture, our_step, plain_step, report
from nas.settings import SearchConfig
from net.architect import Architect, only
from net.losses import saliency_loss
from net.settings import ArchitectConfig, SpaceConfig
from net.supernet import build_supernet
from training.optim import build_optimizer


def supernet(plain, clip=5.0):
    """A small supernet of either kind with its optimizers, and a batch for the weights and one for the alphas."""
    torch.manual_seed(0)
    network = build_supernet(SpaceConfig("test_efficientnet", 16, ["none", "skip_connect", "conv_3x3"]))
    if plain:
        for _, mixture in network.mixtures():
            mixture.__class__ = PlainMixture
    with only(network, network.weights()):
        optimizer = build_optimizer(network, SearchConfig().optim)
    architect = Architect(
        network, optimizer, ArchitectConfig(clip=clip),
        lambda batch: saliency_loss(network(batch[0]), batch[1], SearchConfig().loss).total,
    )  # fmt: skip
    # Plain gradient descent in Adam's place: it moves by the size of the gradient, Adam's first step by its sign alone.
    architect.optimizer = torch.optim.SGD(network.alphas(), lr=1.0)
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.randn(2, 3, 64, 64, generator=generator), torch.ones(2, 1, 64, 64)) for _ in range(2)]
    return network, optimizer, architect, batches


def stepped(plain, steps, clip=5.0):
    """The supernet after some steps, and how far the alphas moved."""
    network, optimizer, architect, batches = supernet(plain, clip)
    before = torch.stack([alpha.detach().clone() for alpha in network.alphas()])
    for _ in range(steps):
        (plain_step if plain else our_step)(network, optimizer, architect, batches)
    return network, torch.stack([alpha.detach() for alpha in network.alphas()]) - before


@pytest.mark.parametrize("steps", [1, 3])
def test_both_steps_move_alphas_and_weights_alike(steps):
    (ours, our_move), (theirs, their_move) = stepped(False, steps), stepped(True, steps)
    assert their_move.abs().max() > 1e-3
    torch.testing.assert_close(our_move, their_move, rtol=0, atol=2e-3 * their_move.abs().max().item())
    for one, other in zip(ours.heads.parameters(), theirs.heads.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_both_steps_clip_the_gradient_of_the_alphas():
    for plain in (False, True):
        _, moved = stepped(plain, 1, clip=1e-3)
        assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_report_ends_in_the_record(tmp_path, capsys):
    seconds = {"plain": 16.0, "plain bf16": 8.0, "exact": 4.0, "partial4": 1.0}
    turns = {variant: [{"seconds": value, "memory_mib": 100 * value}] for variant, value in seconds.items()}
    report(turns, Limit(convolutions=2.0, products=0.0, rest=1.0, ways={}), "fp32", tmp_path / "table.md")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "exact_share": 0.75, "exact_over_plain": 2.0, "exact_memory": 0.25,
        "partial4_over_plain": 8.0, "partial4_memory": 0.062,
    }  # fmt: skip
