"""The whole network: size, any input, gradients, topologies, a compiled and an exported copy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from net import operations
from net.auto_msfnet import AutoMSFNet, NetworkError, build_network
from net.encoder import Encoder, EncoderError
from net.fusion_cell import FusionCell, resize
from net.genotype import CellGenotype, Genotype, load
from net.losses import saliency_loss
from net.settings import LossConfig, NetworkConfig
from net.wiring import wiring_of

NARROW = NetworkConfig("mobilenetv3_small_050", "resnet50", 16)


@pytest.mark.parametrize(("name", "count"), [("resnet50", 32_496_341), ("vgg16", 22_656_279)])
def test_parameters_are_those_of_the_released_code(name, count):
    assert sum(p.numel() for p in build_network(NetworkConfig(name, name)).parameters()) == count


@pytest.fixture(scope="module")
def narrow():
    return build_network(NARROW).eval()


@settings(max_examples=10, deadline=None)
@given(height=st.integers(32, 140), width=st.integers(32, 140))
def test_any_size(narrow, height, width):
    with torch.inference_mode():
        logits = narrow(torch.zeros(1, 3, height, width))
    assert all(output.shape == (1, 1, height, width) and output.dtype == torch.float32 for output in logits)


@pytest.mark.parametrize("encoder", ["resnet50", "vgg16", "efficientnet_lite0"])
@pytest.mark.parametrize("genotype", ["resnet50", "vgg16"])
def test_every_parameter_gets_a_gradient(encoder, genotype):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(encoder, genotype, 16)).train()
    mask = (torch.rand(2, 1, 65, 97) > 0.6).float()
    saliency_loss(network(torch.randn(2, 3, 65, 97)), mask, LossConfig()).total.backward()
    missing = [key for key, p in network.named_parameters() if p.grad is None]
    assert not missing
    zero = {key for key, p in network.named_parameters() if not p.grad.abs().sum() > 0}
    # The published VGG-16 cells have two `none` edges in cell 1. What an operation makes of their zeros has no gradient
    # for its weights, only for its BatchNorm's shift.
    assert all(key.startswith(DEAD_BY_GENOTYPE[genotype]) for key in zero if not unlucky(key)), sorted(zero)


DEAD_BY_GENOTYPE = {"resnet50": ("nothing",), "vgg16": ("cells.0.inner.4.",)}


def unlucky(key):
    """A bottleneck of one unit (16 channels / 16) whose ReLU is off for this input."""
    return ".squeeze." in key or ".excite.weight" in key


@pytest.mark.parametrize("genotype", ["resnet50", "vgg16"])
def test_figure_topology_differs_and_trains(genotype):
    released = load(genotype)
    figure = Genotype(released.cells, "figure")
    torch.manual_seed(0)
    one, two = (FusionCell(released.cells[1], 16, wiring_of(2, topology)).eval() for topology in ("released", "figure"))
    two.load_state_dict(one.state_dict())
    levels = [torch.randn(1, 16, side, side) for side in (4, 8, 16, 32)]
    previous = torch.randn(1, 16, 8, 8)
    assert figure.topology == "figure"
    assert not torch.allclose(one(levels, (16, 16), previous), two(levels, (16, 16), previous))


def skips(inner):
    return CellGenotype(("skip_connect",) * 4, ("skip_connect",) * inner)


def test_released_first_cell_by_hand():
    cell = FusionCell(skips(5), 16, wiring_of(1)).eval()
    cell.fuse = torch.nn.Identity()
    z = [torch.full((1, 16, 4, 4), float(value)) for value in (1, 10, 100, 1000)]
    # n1 = z1 + z0 = 11, n2 = z2 + n1 + z2 = 211, n3 = z3 + n2 + z3 = 2211; the sum leaves z0 out.
    assert cell(z, (4, 4)).unique().tolist() == [11 + 211 + 2211]


def test_figure_first_cell_by_hand():
    cell = FusionCell(skips(5), 16, wiring_of(1, "figure")).eval()
    cell.fuse = torch.nn.Identity()
    z = [torch.full((1, 16, 4, 4), float(value)) for value in (1, 10, 100, 1000)]
    # n1 = z1 + z0 = 11, n2 = z2 + n1 + z0 = 112, n3 = z3 + n2 + z0 = 1113, and the root itself.
    assert cell(z, (4, 4)).unique().tolist() == [1 + 11 + 112 + 1113]


def test_released_later_cell_by_hand():
    cell = FusionCell(skips(7), 16, wiring_of(2)).eval()
    cell.fuse = torch.nn.Identity()
    z = [torch.full((1, 16, 4, 4), float(value)) for value in (1, 10, 100, 1000)]
    x = torch.full((1, 16, 2, 2), 5.0)
    # n1 = z0 + x = 6, n2 = z1 + n1 + z1 = 26, n3 = z2 + n2 + z2 = 226, n4 = z3 + n3 + z3 = 2226.
    assert cell(z, (4, 4), x).unique().tolist() == [6 + 26 + 226 + 2226]


def test_an_encoder_without_the_strides_is_refused():
    class Coarse(Encoder):
        channels, strides = (8, 8, 8, 8), (8, 16, 32, 64)

    with pytest.raises(EncoderError, match=r"strides 8, 16, 32, 64; four are needed, and the cells are at 16, 8, 4"):
        AutoMSFNet(Coarse(), load("resnet50"), 16)
    with pytest.raises(EncoderError, match="has levels at strides .*; four are needed"):
        build_network(NetworkConfig("vit_tiny_patch16_224", "resnet50", 16))


def test_exported_copy_agrees(narrow):
    image = torch.randn(1, 3, 96, 64)
    exported = torch.export.export(narrow, (image,)).module()
    for ours, theirs in zip(narrow(image), exported(image), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("shape", "refused"),
    [((1, 3, 32, 32), True), ((1, 3, 20, 32), True), ((1, 3, 33, 32), False), ((2, 3, 32, 32), False)],
)
def test_a_batch_whose_batchnorm_sees_one_value_is_refused_in_one_line(shape, refused):
    torch.manual_seed(0)
    network = build_network(NetworkConfig("mobilenetv3_small_050", "resnet50", 16))
    assert torch.isfinite(network.eval()(torch.zeros(shape)).p1).all()
    network.train()
    if refused:
        with pytest.raises(NetworkError, match=r"one image of \d+ x 32 pixels is a single pixel .* Raise"):
            network(torch.zeros(shape))
    else:
        network(torch.zeros(shape))


def test_resize_keeps_the_dtype_under_autocast():
    """PyTorch's autocast on CUDA computes it in float32; fake tensors show the dtype without a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)  # torch.autocast("cuda") does nothing where there is no GPU
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            x = torch.empty(1, 2, 4, 4, dtype=torch.bfloat16, device="cuda")
            assert torch.nn.functional.interpolate(x, size=(7, 7), mode="bilinear").dtype == torch.float32
            assert resize(x, (7, 7)).dtype == torch.bfloat16
    finally:
        torch.set_autocast_enabled("cuda", before)
    x = torch.randn(1, 2, 4, 4).bfloat16()
    plain = resize(x, (7, 7))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize(x, (7, 7)), plain)


def test_a_width_that_the_genotype_does_not_support_is_refused_before_the_encoder_is_built(monkeypatch):
    monkeypatch.setattr("net.encoder.build", lambda *arguments: pytest.fail("the encoder was built"))
    with pytest.raises(operations.OperationError, match="squeezes to a sixteenth, so 8 channels leave none"):
        build_network(NetworkConfig("resnet50", "resnet50", 8), "imagenet")
