"""A folded network gives the map of the network it was made from, for every genotype, encoder and size."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data.image_io import read_image
from data.transforms import prepare_image
from inference.engines import packing
from inference.folding.network import HEAD, FoldError, fold
from inference.weights import LoadedNetwork, load_network
from net import authors, operations
from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet
from net.genotype import TOPOLOGIES, CellGenotype, Genotype, load
from tests.net.golden import golden_files, golden_state, read_keys

PAPERS = ("none", "skip_connect", "sep_conv_3x3", "sep_conv_3x3_rp2", "dil_conv_3x3", "dil_conv_3x3_rp2",
          "dil_conv_3x3_dil4", "conv_3x3", "conv_3x3_rp2", "SpatialAttention", "ChannelAttention")  # fmt: skip


class Pyramid(encoders.Encoder):
    """A small encoder with the strides of ResNet-50, so that many genotypes can be tried."""

    channels = (4, 5, 6, 7)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 7, stride=4, padding=3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, i + 1, 3, stride=2, padding=1), nn.BatchNorm2d(i + 1)) for i in (4, 5, 6)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [self.stem(image)]
        for step in self.steps:
            levels.append(step(levels[-1]).relu())
        return levels


@pytest.fixture(scope="module")
def tiny_loaded(tiny_weights) -> LoadedNetwork:
    return load_network(tiny_weights)


@cache
def _built(name: str) -> encoders.Encoder:
    return encoders.build(name)


def built(name: str) -> encoders.Encoder:
    """A copy of an encoder that is drawn once: VGG-16's classifier, which is not used, takes a second."""
    return deepcopy(_built(name))


def lived_in(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with BatchNorm statistics as training leaves them: none is the identity."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.uniform_(0.5, 1.5, generator=draw)
                    module.bias.normal_(0, 0.2, generator=draw)
    return network.eval()


def genotype_of(outer: list[str], inner: list[str], topology: str = "released") -> Genotype:
    outer_edges, inner_edges = iter(outer), iter(inner)
    cells = [
        CellGenotype(tuple(next(outer_edges) for _ in range(4)), tuple(next(inner_edges) for _ in range(count)))
        for count in (5, 7, 7)
    ]
    return Genotype(tuple(cells), topology)  # type: ignore[arg-type]


def largest_difference(network: AutoMSFNet, image: Tensor) -> float:
    folded = fold(network, (image.shape[-2], image.shape[-1]))
    with torch.inference_mode():
        ours, theirs = folded(image), network(image).p1
    # A map may be flat where logits are large, so these must agree to the same number of digits.
    digits = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)
    return max(digits.item(), (ours.sigmoid() - theirs.sigmoid()).abs().max().item())


def operations_of(network: nn.Module, image: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(image)
    return counter.get_total_flops() // 2


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(PAPERS), min_size=12, max_size=12),
    st.lists(st.sampled_from(PAPERS), min_size=19, max_size=19),
    st.sampled_from(TOPOLOGIES),
    st.sampled_from([(64, 64), (128, 96), (65, 97), (33, 47), (70, 128)]),
    st.integers(0, 2**31),
)
def test_every_genotype_keeps_its_map(outer, inner, topology, size, seed):
    torch.manual_seed(seed)
    network = lived_in(AutoMSFNet(Pyramid(), genotype_of(outer, inner, topology), 16), seed)
    image = torch.randn(2, 3, *size)
    try:
        assert largest_difference(network, image) < 1e-4
    except FoldError:
        logits = network(image).p1
        assert torch.equal(logits[0], logits[1])  # it sees nothing


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("size", [(128, 128), (97, 130)])
def test_every_operation_keeps_its_map_on_every_edge(name, size):
    torch.manual_seed(1)
    others = ["sep_conv_3x3"] * 12, ["SpatialAttention"] * 19
    for place in ("outer", "inner"):
        outer, inner = ([name] * 12, others[1]) if place == "outer" else (others[0], [name] * 19)
        network = lived_in(AutoMSFNet(Pyramid(), genotype_of(outer, inner), 16))
        if (name, place) != ("none", "outer"):
            assert largest_difference(network, torch.randn(2, 3, *size)) < 1e-4


@pytest.mark.parametrize(
    "name",
    ["resnet50", "vgg16", "efficientnet_lite0", "mobilenetv3_small_100", "resnet18", "densenet121", "res2net50_14w_8s"],
)
def test_every_encoder_keeps_its_map(name):
    torch.manual_seed(0)
    network = lived_in(AutoMSFNet(built(name), load("resnet50"), 16))
    for size in ((64, 64), (75, 129)):
        assert largest_difference(network, torch.randn(1, 3, *size)) < 1e-4, size


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "efficientnet_lite0"])
def test_no_norm_is_left(name):
    network = AutoMSFNet(built(name), load("resnet50"), 16).eval()
    assert not [module for module in fold(network, 64).modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_published_networks_keep_their_maps_on_photos_for_fewer_operations(name, root, request):
    shared = None if name == "resnet50" else request.getfixturevalue("shared")
    state = authors.convert(golden_state(read_keys(golden_files(name, shared)[1])), name)
    network = AutoMSFNet(built(name), load(name)).eval()
    network.load_state_dict(state)
    image = prepare_image(read_image(root / "data" / "samples" / "cat.jpg"), 128)[None]
    assert largest_difference(network, image) < 1e-4
    assert operations_of(fold(network, 128), image) < 0.96 * operations_of(network, image)


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("name", "size"), [("resnet50", (97, 130)), ("vgg16", (97, 130)), ("lite", (256, 256)),
                                            ("lite", (255, 193))])  # fmt: skip
def test_whole_networks_keep_their_maps_at_odd_sizes_in_both_topologies(name, size, topology, root):
    if name == "lite":
        loaded = load_network("lite")
        shipped, config = loaded.network, loaded.config
        genotype = replace(shipped.genotype, topology=topology)
        network = AutoMSFNet(shipped.encoder, genotype, config.channels, config.context).eval()
        network.load_state_dict(shipped.state_dict())
    else:
        torch.manual_seed(0)
        network = lived_in(AutoMSFNet(built(name), replace(load(name), topology=topology), 128))
    image = prepare_image(read_image(root / "data" / "samples" / "cat.jpg"), 256)[None, :, : size[0], : size[1]]
    assert largest_difference(network, image) < 1e-4


def test_real_photos_of_the_benchmarks(shared, tiny_loaded):
    photos = sorted((shared / "datasets" / "PASCAL-S-100").rglob("*.jpg"))[:4]
    assert photos
    for path in photos:
        assert largest_difference(tiny_loaded.network, prepare_image(read_image(path), 160)[None]) < 1e-4


def test_an_edge_fed_by_nothing_becomes_part_of_a_bias():
    """VGG-16's published first cell has an attention of a level that is `none`: relu(shift) everywhere."""
    network = lived_in(AutoMSFNet(Pyramid(), load("vgg16"), 16))
    folded = fold(network, 64)
    constants = [str(node.target) for node in folded.graph.nodes if node.op == "get_attr"]
    assert all(name.startswith(HEAD) for name in constants)  # of the last resize
    assert largest_difference(network, torch.randn(1, 3, 64, 64)) < 1e-4


def test_what_nothing_reads_is_gone():
    """With nothing on the last cell's edge from its root, the first two cells are never read."""
    inner = ["conv_3x3"] * 12 + ["none"] + ["conv_3x3"] * 6
    outer = ["conv_3x3"] * 8 + ["none", "conv_3x3", "conv_3x3", "conv_3x3"]
    folded = fold(lived_in(AutoMSFNet(Pyramid(), genotype_of(outer, inner), 16)), 64)
    names = [name for name, module in folded.named_modules() if isinstance(module, nn.Conv2d)]
    assert sum(name.startswith("fuse") for name in names) == 1
    assert sum(name.startswith("lateral") for name in names) == 3
    assert not any(name.startswith("encoder.steps.2") for name in names)  # E5


@pytest.mark.parametrize("kind", ["gate", "attention"])
def test_a_block_on_e5_keeps_its_maps_folded_and_packed(kind):
    torch.manual_seed(0)
    network = lived_in(AutoMSFNet(Pyramid(), load("resnet50"), 16, kind))
    image = torch.randn(2, 3, 97, 130)
    with torch.inference_mode():
        before = network(image).p1
        for parameter in network.context.parameters():
            parameter.normal_()
        assert (network(image).p1 - before).abs().max() > 0.01, "the block counts"
        assert largest_difference(network, image) < 1e-4
        packed = packing.pack(fold(network, (97, 130)), image.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(packed(image), network(image).p1, rtol=1e-3, atol=1e-3)


def test_a_genotype_that_reads_no_level_is_told():
    network = AutoMSFNet(Pyramid(), genotype_of(["none"] * 12, ["SpatialAttention"] * 19), 16).eval()
    with pytest.raises(FoldError, match="every map is the same"):
        fold(network, 64)


def test_resizes_and_pools_are_not_repeated():
    network = lived_in(AutoMSFNet(Pyramid(), genotype_of(["SpatialAttention"] * 12, ["skip_connect"] * 19), 16))
    folded = fold(network, 128)
    means = [node for node in folded.graph.nodes if node.target == "mean"]
    assert len(means) == 4  # one a level, not one an edge


def test_an_operation_of_the_user_runs_as_it_is():
    @operations.operation("twice_for_the_test", source="test")
    def _(channels: int, affine: bool) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.GELU())

    try:
        network = lived_in(AutoMSFNet(Pyramid(), genotype_of(["twice_for_the_test"] * 12, ["skip_connect"] * 19), 16))
        assert largest_difference(network, torch.randn(1, 3, 64, 96)) < 1e-4
        assert not [module for module in fold(network, 64).modules() if isinstance(module, nn.BatchNorm2d)]
    finally:
        del operations.REGISTRY.parts["twice_for_the_test"]


class Mirrored(nn.Conv2d):
    """A user's convolution that computes something else than its class name says."""

    def forward(self, input):
        return super().forward(input.flip(3))


class Methods(nn.Module):
    """Sums written as method calls, with a factor, in place, and with a parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift = nn.Parameter(torch.randn(1, channels, 1, 1))

    def forward(self, x):
        a = self.conv(x).add(self.shift, alpha=2).add(0.5)
        b = torch.add(self.conv(x), x, alpha=0.5)
        other = a * 2
        other += self.conv(b)
        return (other.add(a) + b).relu_()


class Options(nn.Module):
    """An operation with a second argument and a convolution that is called by keyword."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x, factor=2.0):
        return self.norm(self.conv(input=x)) * factor if x.shape[0] > 0 else x


class Halved(nn.Module):
    """An operation whose output is half as large as its input."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 2, ceil_mode=True)


def hooked(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 1)
    conv.register_forward_hook(lambda module, inputs, output: output * 2)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))


def unit(conv: nn.Conv2d, *after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.ReLU(), conv, *after, nn.BatchNorm2d(conv.out_channels))


OWN = {
    "reflected": lambda c: unit(nn.Conv2d(c, c, 3, padding=1, padding_mode="reflect")),
    "circular": lambda c: unit(nn.Conv2d(c, c, 3, padding=2, dilation=2, padding_mode="circular")),
    "subclass": lambda c: unit(Mirrored(c, c, 3, padding=1)),
    "grouped 1x1": lambda c: unit(nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1, groups=4)),
    "padded 1x1": lambda c: unit(nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1, padding=1)),
    "subclass 1x1": lambda c: unit(nn.Conv2d(c, c, 3, padding=1), Mirrored(c, c, 1)),
    "same": lambda c: unit(nn.Conv2d(c, c, 3, padding="same", dilation=2)),
    "valid": lambda c: unit(nn.Conv2d(c, c, 3, padding="valid")),
    "oblong": lambda c: unit(nn.Conv2d(c, c, (3, 5), padding=(1, 2))),
    "two dilations": lambda c: unit(nn.Conv2d(c, c, 3, padding=(1, 2), dilation=(1, 2))),
    "relu at the end": lambda c: nn.Sequential(*unit(nn.Conv2d(c, c, 1)), nn.ReLU()),
    "batch statistics": lambda c: nn.Sequential(
        nn.ReLU(), nn.Conv2d(c, c, 1), nn.BatchNorm2d(c, track_running_stats=False)
    ),
    "hook": hooked,
    "methods": Methods,
    "options": Options,
    "half as large": lambda c: Halved(),
}


OTHER_SIZE = ("padded 1x1", "valid", "half as large")  # possible on outer edges only


@pytest.mark.parametrize("kind", OWN)
def test_operations_of_users_keep_their_maps_in_every_form(kind, own_operation):
    """What folding and packing do not understand runs as it is."""
    torch.manual_seed(0)
    name = own_operation(OWN[kind])
    inner = ["skip_connect", "conv_3x3" if kind in OTHER_SIZE else name]
    network = lived_in(AutoMSFNet(Pyramid(), genotype_of([name] * 12, [*inner * 9, inner[1]]), 16))
    image = torch.randn(1, 3, 96, 128)
    assert largest_difference(network, image) < 1e-4
    packed = packing.pack(fold(network, (96, 128)), image.contiguous(memory_format=torch.channels_last))
    with torch.inference_mode():
        theirs = network(image).p1
        assert (packed(image) - theirs).abs().max() < 1e-3 * theirs.abs().max().clamp(min=1)


@pytest.fixture
def own_operation():
    """Registers an operation for one test; returns its name."""
    name = "own_operation_for_the_test"

    def register(factory):
        operations.operation(name, source="test")(lambda channels, affine: factory(channels))
        return name

    yield register
    operations.REGISTRY.parts.pop(name, None)


def test_the_network_itself_is_left_as_it_was(tiny_loaded):
    before = {key: value.clone() for key, value in tiny_loaded.network.state_dict().items()}
    fold(tiny_loaded.network, 64)
    after = tiny_loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
