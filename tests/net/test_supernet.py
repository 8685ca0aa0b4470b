"""SuperNet: 31 edges, shapes, state, and that a one-hot supernet is the derived network."""

import pytest
import timm
import torch

from net import operations
from net.auto_msfnet import AutoMSFNet
from net.batch_norm import use_batch_statistics
from net.derive import derive, discretise, random_genotype, strongest
from net.genotype import operations_of
from net.mixture import SpaceError
from net.settings import PAPER_SPACE, SpaceConfig
from net.supernet import build_supernet

SMALL = SpaceConfig("mobilenetv3_small_050", 16)


def small(**changes):
    torch.manual_seed(0)
    return build_supernet(SpaceConfig(**{**vars(SMALL), **changes}))


def test_the_paper_space_is_the_eleven():
    assert set(PAPER_SPACE) == set(operations.names())


def test_every_one_of_31_edges_is_a_mixture():
    edges = [edge for edge, _ in small().mixtures()]
    assert sum(edge.kind == "outer" for edge in edges) == 12
    assert sum(edge.kind == "inner" for edge in edges) == 19
    assert str(edges[0]) == "cell 1 outer E5" and str(edges[-1]) == "cell 3 inner 7"


def test_alphas_are_parameters_of_their_own_in_the_state_dict():
    network = small()
    keys = [key for key in network.state_dict() if key.endswith(".alpha")]
    assert len(keys) == len(network.alphas()) == 31
    names = {id(parameter) for parameter in network.alphas()}
    assert not names & {id(parameter) for parameter in network.weights()}
    assert len(network.weights()) + 31 == len(list(network.parameters()))


@pytest.mark.parametrize("side", [(64, 64), (45, 70)])
@pytest.mark.parametrize("partial", [1, 4])
def test_any_size_gives_three_maps_of_the_input_size(side, partial):
    logits = small(partial=partial, channels=16 * partial)(torch.randn(2, 3, *side))
    assert all(one.shape == (2, 1, *side) for one in logits)


def test_partial_channels_and_the_figure_topology_train():
    network = small(channels=64, partial=4, topology="figure")
    sum(one.square().mean() for one in network(torch.randn(2, 3, 64, 64))).backward()
    assert all(alpha.grad is not None and alpha.grad.abs().sum() > 0 for alpha in network.alphas()[1:])


def test_a_forward_pass_changes_no_state():
    network = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_one_hot_it_is_the_derived_network():
    """The same kernels in an AutoMSFNet of that genotype, normalised by the batch, give the same maps."""
    network = small().double()
    genotype = random_genotype(SMALL, seed=3)
    discretise(network, genotype)
    derived = AutoMSFNet(network.encoder, genotype, 16).double()
    use_batch_statistics(derived)
    derived.laterals.load_state_dict(network.laterals.state_dict())
    derived.heads.load_state_dict(network.heads.state_dict())
    chosen = dict(operations_of(genotype))
    for cell, relaxed in zip(derived.cells, network.cells, strict=True):
        cell.fuse.load_state_dict(relaxed.fuse.state_dict())
    for edge, mixture in network.mixtures():
        operation = getattr(derived.cells[edge.cell - 1], edge.kind)[edge.number]
        if chosen[edge] == "skip_connect":  # normalised in the search alone
            getattr(derived.cells[edge.cell - 1], edge.kind)[edge.number] = mixture.candidates[1]
        else:
            state = mixture.candidates[mixture.names.index(chosen[edge])].state_dict()
            assert not operation.load_state_dict(state, strict=False).unexpected_keys
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for one, other in zip(network(image), derived(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_several_searches_together_choose_what_they_agree_on():
    """Two of three prefer conv_3x3 a little, one something else strongly: the mean decides, edge by edge."""
    tables = torch.full((3, 31, len(PAPER_SPACE)), 0.05)
    tables[:, :, PAPER_SPACE.index("conv_3x3")] = torch.tensor([0.4, 0.4, 0.1])[:, None]
    tables[2, :, PAPER_SPACE.index("skip_connect")] = 0.6
    tables[2, 0, PAPER_SPACE.index("skip_connect")] = 0.9
    genotype = strongest(tables.mean(0), SMALL, {"seeds": [0, 1, 2]})
    names = [name for _, name in operations_of(genotype)]
    assert names == ["skip_connect", *["conv_3x3"] * 30]
    assert genotype.provenance == {"seeds": [0, 1, 2], "weights": [0.3333, *[0.3] * 30]}


def test_derivation_takes_the_strongest_but_none():
    network = small()
    with torch.no_grad():
        for edge, mixture in network.mixtures():
            mixture.alpha.zero_()
            mixture.alpha[PAPER_SPACE.index("none")] = 5
            mixture.alpha[PAPER_SPACE.index("conv_3x3" if edge.kind == "outer" else "dil_conv_3x3")] = 1
    genotype = derive(network, SMALL, {"seed": 7})
    assert {name for cell in genotype.cells for name in cell.outer} == {"conv_3x3"}
    assert {name for cell in genotype.cells for name in cell.inner} == {"dil_conv_3x3"}
    assert genotype.provenance["seed"] == 7 and len(genotype.provenance["weights"]) == 31
    with_none = derive(network, SpaceConfig(**{**vars(SMALL), "outer_none": True}))
    assert {name for cell in with_none.cells for name in cell.outer} == {"none"}
    assert {name for cell in with_none.cells for name in cell.inner} == {"dil_conv_3x3"}


def test_random_genotypes_are_seeded_and_fill_the_space():
    assert random_genotype(SMALL, 1) == random_genotype(SMALL, 1) != random_genotype(SMALL, 2)
    drawn = {name for seed in range(20) for _, name in operations_of(random_genotype(SMALL, seed))}
    assert drawn == set(PAPER_SPACE) - {"none"}


def test_the_relaxation_reaches_every_edge():
    network = small()
    network.set_relaxation(temperature=0.5, auxiliary=0.25)
    assert {(mixture.temperature, mixture.auxiliary) for _, mixture in network.mixtures()} == {(0.5, 0.25)}
    torch.testing.assert_close(network.probabilities().sum(1), torch.ones(31))


def test_a_pretrained_encoder_keeps_its_norm(tmp_path):
    assert small().train().encoder.training
    body = timm.create_model(SMALL.encoder, features_only=True)
    torch.save(body.state_dict(), tmp_path / "encoder.pt")
    network = build_supernet(SMALL, str(tmp_path / "encoder.pt")).train()
    assert not any(module.training for module in network.encoder.modules())
    assert network.cells.training


def test_an_empty_space_is_refused():
    with pytest.raises(SpaceError, match="leaves nothing to choose from"):
        small(operations=["none"])


def test_alphas_decide_where_their_softmax_underflows():
    """At temperature .01 all weights but that of `none` are 0 in float32; the last operation has the greatest alpha."""
    network = small()
    with torch.no_grad():
        for alpha in network.alphas():
            alpha.copy_(torch.linspace(-40, -20, len(alpha)))
            alpha[SMALL.operations.index("none")] = 0
    network.set_relaxation(0.01, 0.0)
    assert (network.probabilities() > 0).sum() == 31
    assert {name for _, name in operations_of(derive(network, SMALL))} == {SMALL.operations[-1]}
