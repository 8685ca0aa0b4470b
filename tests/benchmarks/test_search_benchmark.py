"""The benchmark's two sides compute the same: the plain mixture is ours, and a plain step moves the same alphas."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from benchmarks.search import PlainMixture, our_step, plain_step, report
from nas.settings import SearchConfig
from net.architect import Architect, only
from net.losses import saliency_loss
from net.settings import ArchitectConfig, SpaceConfig
from net.supernet import build_supernet
from training.optim import build_optimizer


def stepped(plain):
    torch.manual_seed(0)
    network = build_supernet(SpaceConfig("mobilenetv3_small_050", 16, ["none", "skip_connect", "conv_3x3"]))
    if plain:
        for _, mixture in network.mixtures():
            mixture.__class__ = PlainMixture
    with only(network, network.weights()):
        optimizer = build_optimizer(network, SearchConfig().optim)
    architect = Architect(
        network, optimizer, ArchitectConfig(),
        lambda batch: saliency_loss(network(batch[0]), batch[1], SearchConfig().loss).total,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.randn(2, 3, 64, 64, generator=generator), torch.ones(2, 1, 64, 64)) for _ in range(2)]
    (plain_step if plain else our_step)(network, optimizer, architect, batches)
    return network


def test_both_steps_move_alphas_and_weights_alike():
    ours, theirs = stepped(plain=False), stepped(plain=True)
    alphas = [torch.stack([alpha.detach() for alpha in network.alphas()]) for network in (ours, theirs)]
    torch.testing.assert_close(*alphas, rtol=0, atol=2e-5)  # Adam's first step is the sign times the rate of 3e-4
    for one, other in zip(ours.heads.parameters(), theirs.heads.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_report_ends_in_the_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.search.TABLE", tmp_path / "table.md")
    seconds = {"plain": 16.0, "exact": 4.0, "partial4": 1.0}
    report({variant: [{"seconds": value, "memory_mib": 100 * value}] for variant, value in seconds.items()})
    assert '{"exact_speedup": 4.0, "exact_memory": 0.25, "partial4_speedup": 16.0' in capsys.readouterr().out
