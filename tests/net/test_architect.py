"""Architect: both orders against exact gradients in float64, and what moves and what does not."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from net import operations
from net.architect import Architect, ArchitectError, clipped, only
from net.auto_msfnet import initialise
from net.cost import ExpectedCost, edge_sides
from net.encoder import Encoder
from net.settings import ArchitectConfig, SpaceConfig, alphas_rest, relaxation
from net.supernet import SuperNet
from settings.limits import SettingError

SPACE = SpaceConfig("small", 4, ["none", "skip_connect", "conv_3x3", "dil_conv_3x3"])
SMOOTH = SpaceConfig("small", 4, ["none", "skip_connect", "smooth_3x3", "smooth_1x1"])


class SmallEncoder(Encoder):
    """Four smooth levels at strides 4 to 32."""

    channels, strides = (4, 4, 4, 4), (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=4, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, image):
        levels = [torch.tanh(self.stem(image))]
        for layer in self.down:
            levels.append(torch.tanh(layer(levels[-1])))
        return levels


def make(seed=0, space=SPACE):
    torch.manual_seed(seed)
    network = SuperNet(SmallEncoder(), space, frozen_norm=False)
    initialise(network)
    for alpha in network.alphas():
        nn.init.normal_(alpha, std=0.5)
    return network.double()


@pytest.fixture
def make_smooth(monkeypatch):
    """A supernet without a ReLU: where a gradient jumps, no finite difference is near the exact second derivative."""
    monkeypatch.setattr(operations.REGISTRY, "parts", dict(operations.REGISTRY.parts))
    for side in (1, 3):

        def factory(channels, affine, side=side):
            conv = nn.Conv2d(channels, channels, side, padding=side // 2, bias=False)
            return nn.Sequential(nn.Softplus(), conv, nn.BatchNorm2d(channels, affine=affine))

        operations.operation(f"smooth_{side}x{side}")(factory)

    def build(seed=0):
        network = make(seed, SMOOTH)
        for block in (*network.laterals, *(cell.fuse for cell in network.cells)):
            block[2] = nn.Softplus()
        return network

    return build


def loss_of(network, batch, parameters=None):
    image, mask = batch
    logits = network(image) if parameters is None else functional_call(network, parameters, (image,))
    return sum(F.binary_cross_entropy_with_logits(one, mask) for one in logits)


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=generator)
    mask = (F.avg_pool2d(image.mean(1, keepdim=True), 9, 1, 4) > 0).double()
    return (image[:2], mask[:2]), (image[2:], mask[2:])


def stepped(network, optimizer, batch):
    """A real step of the weights, so that there is momentum."""
    with only(network, network.weights()):
        optimizer.zero_grad()
        loss_of(network, batch).backward()
        optimizer.step()


def sgd(network, nesterov, rate=0.05):
    weights = network.weights()
    groups = [{"params": weights[:4], "lr": rate / 10}, {"params": weights[4:], "lr": rate}]
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=3e-4, nesterov=nesterov)


def look_ahead(network, optimizer, batches, alphas, create_graph=True, clip=0.0):
    """Validation loss after the step that the optimizer would take, as a function of the alphas: the definition."""
    training, validation = batches
    named = dict(network.named_parameters())
    by_id = {id(parameter): alpha for parameter, alpha in zip(network.alphas(), alphas, strict=True)}
    parameters = {key: by_id.get(id(value), value) for key, value in named.items()}
    weights = {key: value for key, value in parameters.items() if id(named[key]) not in by_id}
    slopes = torch.autograd.grad(
        loss_of(network, training, parameters), list(weights.values()), create_graph=create_graph,
        materialize_grads=True,
    )  # fmt: skip
    if clip:
        norm = torch.cat([slope.flatten() for slope in slopes]).norm()
        slopes = [slope * (clip / (norm + 1e-6)).clamp(max=1) for slope in slopes]
    groups = {id(one): group for group in optimizer.param_groups for one in group["params"]}
    for (key, weight), slope in zip(weights.items(), slopes, strict=True):
        group, state = groups[id(named[key])], optimizer.state.get(named[key], {})
        descent = slope + group["weight_decay"] * weight
        moved = descent + group["momentum"] * state.get("momentum_buffer", torch.zeros_like(weight))
        step = descent + group["momentum"] * moved if group["nesterov"] else moved
        parameters[key] = weight - group["lr"] * step
    return loss_of(network, validation, parameters)


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def difference(ours, exact):
    return ((flat(ours) - flat(exact)).norm() / flat(exact).norm()).item()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("steps", [0, 2])
def test_second_order_is_the_exact_double_backward(make_smooth, batches, nesterov, steps):
    network = make_smooth()
    optimizer = sgd(network, nesterov)
    for _ in range(steps):
        stepped(network, optimizer, batches[0])
    before = flat(network.parameters())
    architect = Architect(network, optimizer, ArchitectConfig(order="second"), lambda batch: loss_of(network, batch))
    ours, loss, _ = architect.second_order(*batches)
    assert torch.equal(flat(network.parameters()), before), "the virtual step is taken back to the bit"
    exact_loss = look_ahead(network, optimizer, batches, network.alphas())
    exact = torch.autograd.grad(exact_loss, network.alphas(), materialize_grads=True)
    torch.testing.assert_close(loss, exact_loss.detach())
    assert difference(ours, exact) < 0.01
    first, _, _ = architect.first_order(batches[1])
    assert difference(first, exact) > 0.02, "the second order must matter here, else the test shows nothing"


@pytest.mark.parametrize(("share", "rate"), [(0.5, 0.1), (2.0, 0.05)])
def test_the_virtual_step_is_clipped_as_the_real_one(make_smooth, batches, share, rate):
    """With clip at half of the gradient's norm, and at twice, where nothing is clipped."""
    network = make_smooth()
    optimizer = sgd(network, True, rate)
    stepped(network, optimizer, batches[0])
    slopes = torch.autograd.grad(loss_of(network, batches[0]), network.weights(), materialize_grads=True)
    clip = share * flat(slopes).norm().item()
    config = ArchitectConfig(order="second")
    architect = Architect(network, optimizer, config, lambda batch: loss_of(network, batch), clip=clip)
    ours, loss, _ = architect.second_order(*batches)
    exact_loss = look_ahead(network, optimizer, batches, network.alphas(), clip=clip)
    exact = torch.autograd.grad(exact_loss, network.alphas(), materialize_grads=True)
    torch.testing.assert_close(loss, exact_loss.detach())
    assert difference(ours, exact) < 0.01
    free = Architect(network, optimizer, config, lambda batch: loss_of(network, batch)).second_order(*batches)[0]
    assert (difference(free, exact) > 0.02) == (share < 1), "clipping must matter here"


def test_clipping_is_that_of_pytorch():
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    before = [parameter.grad.clone() for parameter in parameters]
    nn.utils.clip_grad_norm_(parameters, 0.5)
    for ours, parameter in zip(clipped(before, 0.5), parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad)
    assert all(torch.equal(ours, one) for ours, one in zip(clipped(before, 0.0), before, strict=True))


def test_second_order_is_the_derivative_of_the_look_ahead_loss(make_smooth, batches):
    network = make_smooth(seed=2)
    optimizer = sgd(network, nesterov=True)
    stepped(network, optimizer, batches[0])
    architect = Architect(network, optimizer, ArchitectConfig(order="second"), lambda batch: loss_of(network, batch))
    ours, _, _ = architect.second_order(*batches)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        direction = [torch.randn(alpha.shape, dtype=torch.float64, generator=generator) for alpha in ours]
        sides = [
            look_ahead(
                network, optimizer, batches,
                [alpha.detach() + sign * 1e-5 * way for alpha, way in zip(network.alphas(), direction, strict=True)],
                create_graph=False,
            ).item()
            for sign in (1, -1)
        ]  # fmt: skip
        slope = flat(ours) @ flat(direction)
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(slope.item(), rel=0.01)


def test_first_order_is_the_plain_gradient(batches):
    network = make()
    architect = Architect(network, sgd(network, True), ArchitectConfig(), lambda batch: loss_of(network, batch))
    ours, loss, _ = architect.first_order(batches[1])
    exact_loss = loss_of(network, batches[1])
    exact = torch.autograd.grad(exact_loss, network.alphas(), materialize_grads=True)
    torch.testing.assert_close(loss, exact_loss.detach())
    assert difference(ours, exact) < 1e-9


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_step_moves_alphas_and_nothing_else(batches, order):
    network = make()
    optimizer = sgd(network, True)
    architect = Architect(network, optimizer, ArchitectConfig(order=order), lambda batch: loss_of(network, batch))
    alphas, weights = flat(network.alphas()), flat(network.weights())
    step = architect.step(*batches)
    assert torch.isfinite(step.loss) and step.cost == 0 and step.norm > 0
    assert not torch.equal(flat(network.alphas()), alphas)
    assert torch.equal(flat(network.weights()), weights)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_first_order_runs_nothing_backward_that_the_alphas_do_not_need(batches):
    network = make()
    seen = []
    network.encoder.stem.register_full_backward_hook(lambda *arguments: seen.append("encoder"))
    architect = Architect(network, sgd(network, True), ArchitectConfig(), lambda batch: loss_of(network, batch))
    with only(network, network.alphas()):
        assert not any(level.requires_grad for level in network.encoder(batches[0][0]))
    architect.step(*batches)
    assert not seen


def test_a_search_for_a_good_edge_finds_it(batches):
    """The loss of one edge is smallest for a skip: the alphas choose it."""
    network = make()
    config = ArchitectConfig(lr=0.1, weight_decay=0.0)
    target = network.cells[2].inner[6]

    def loss(batch):
        return loss_of(network, batch) - 10 * target.weights()[1]

    architect = Architect(network, sgd(network, True), config, loss)
    for _ in range(40):
        architect.step(*batches)
    assert target.weights()[1] > 0.8


def test_the_cost_term_prefers_what_costs_less(batches):
    network = make()
    price = {"none": 0.0, "skip_connect": 1.0, "conv_3x3": 10.0, "dil_conv_3x3": 20.0}
    cost = ExpectedCost(network, edge_sides(network.float(), 64), lambda name, side: price[name] * side[0] * side[1])
    network.double()
    start = cost().item()
    architect = Architect(
        network, sgd(network, True), ArchitectConfig(lr=0.1), lambda batch: loss_of(network, batch),
        cost=lambda: 100 * cost(),
    )  # fmt: skip
    for _ in range(15):
        step = architect.step(*batches)
    assert step.cost > 0 and cost().item() < 0.5 * start


def test_second_order_needs_sgd(batches):
    network = make()
    adam = torch.optim.AdamW(network.weights())
    with pytest.raises(ArchitectError, match=r"architect.order: second order needs .* optim.name gives AdamW"):
        Architect(network, adam, ArchitectConfig(order="second"), lambda batch: loss_of(network, batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "^lr: 0.0"),
        ({"temperature": (1.0, 0.0)}, "temperature"),
        ({"warmup": 1.0}, "^warmup: 1.0"),
        ({"auxiliary": -1.0}, "^auxiliary: -1.0"),
        ({"clip": -1.0}, "^clip: -1.0"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        ArchitectConfig(**changes)


def test_relaxation_and_warm_up():
    config = ArchitectConfig(warmup=0.3, temperature=(1.0, 0.25), auxiliary=1.0)
    assert relaxation(config, 0, 5) == (1.0, 1.0)
    assert relaxation(config, 2, 5) == pytest.approx((0.5, 0.5))
    assert relaxation(config, 4, 5) == pytest.approx((0.25, 0.0))
    assert [alphas_rest(config, epoch, 10) for epoch in (0, 2, 3, 9)] == [True, True, False, False]
