"""The loss against plain NumPy formulae and hand-computed vectors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from net.auto_msfnet import Logits
from net.losses import boundary, boundary_loss, distilled, iou_loss, saliency_loss
from net.settings import LossConfig
from settings.limits import SettingError


def window_max(x, width):
    """Maximum over a square window that reads only pixels that exist."""
    reach = width // 2
    padded = np.pad(x, reach, constant_values=-np.inf)
    return np.max([padded[i : i + x.shape[0], j : j + x.shape[1]] for i in range(width) for j in range(width)], axis=0)


def boundary_loss_numpy(probability, mask, theta0, theta):
    losses = []
    for p, g in zip(probability, mask, strict=True):
        pb, gb = (window_max(1 - one, theta0) - (1 - one) for one in (p, g))
        if gb.sum() == 0:
            losses.append(0.0)
            continue
        precision = (pb * window_max(gb, theta)).sum() / (pb.sum() + 1e-7)
        recall = (gb * window_max(pb, theta)).sum() / (gb.sum() + 1e-7)
        losses.append(1 - 2 * precision * recall / (precision + recall + 1e-7))
    return float(np.mean(losses))


def random_maps(seed, count=3, side=17):
    random = np.random.default_rng(seed)
    return random.random((count, side, side)), (random.random((count, side, side)) > 0.6).astype(float)


def tensor(x):
    return torch.from_numpy(np.asarray(x, np.float32))[:, None]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), theta=st.sampled_from([3, 5, 7]))
def test_boundary_loss_is_its_formula(seed, theta):
    probability, mask = random_maps(seed)
    mask[0] = 0
    value = boundary_loss(tensor(probability), tensor(mask), 3, theta).item()
    assert value == pytest.approx(boundary_loss_numpy(probability, mask, 3, theta), abs=1e-5)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_iou_is_its_formula(seed):
    probability, mask = random_maps(seed)
    both = (probability * mask).sum((1, 2))
    expected = 1 - (both + 1) / ((probability + mask).sum((1, 2)) - both + 1)
    assert iou_loss(tensor(probability), tensor(mask)).item() == pytest.approx(expected.mean(), abs=1e-5)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_total_is_the_sum_of_its_formulae(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (3, 2, 12, 12))
    mask = (random.random((2, 12, 12)) > 0.5).astype(float)
    config = LossConfig(0.5, 2.0, 0.25, (1.0, 0.5, 0.25), 3, (3, 5, 7))
    expected = 0.0
    for output, weight, theta in zip(logits, config.outputs, config.theta, strict=True):
        p = 1 / (1 + np.exp(-output))
        bce = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
        both = (p * mask).sum((1, 2))
        iou = (1 - (both + 1) / ((p + mask).sum((1, 2)) - both + 1)).mean()
        expected += weight * (0.5 * bce + 2 * iou + 0.25 * boundary_loss_numpy(p, mask, 3, theta))
    terms = saliency_loss(Logits(*(tensor(output) for output in logits)), tensor(mask), config)
    assert terms.total.item() == pytest.approx(expected, rel=1e-4)
    assert terms.total.item() == pytest.approx((terms.bce + terms.iou + terms.polish).item(), rel=1e-6)


def square(shift=0):
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:11, 5 + shift : 11 + shift] = 1
    return mask


def test_boundary_of_a_square_is_its_inner_ring():
    ring = boundary(square(), 3)
    assert ring.sum() == 20 and ring[0, 0, 5, 5] == 1 and ring[0, 0, 6, 6] == 0


def test_the_border_of_the_image_is_no_boundary():
    half = torch.zeros(1, 1, 16, 16)
    half[..., :8] = 1
    assert boundary(half, 3).sum() == 16


SHIFTS = {3: [0, 0, 0.4, 0.5, 0.5], 5: [0, 0, 0, 0.3, 0.4], 7: [0, 0, 0, 0, 0.3]}


@pytest.mark.parametrize(
    ("theta", "shift", "loss"), [(t, s, v) for t, row in SHIFTS.items() for s, v in enumerate(row)]
)
def test_shifted_squares(theta, shift, loss):
    assert boundary_loss(square(shift), square(), 3, theta).item() == pytest.approx(loss, abs=1e-5)


RAMPS = {
    4: {3: 0.625, 5: 0.600, 9: 0.600, 17: 0.600},
    8: {3: 0.813, 5: 0.792, 9: 0.778, 17: 0.778},
    16: {3: 0.906, 5: 0.896, 9: 0.888, 17: 0.882},
}


@pytest.mark.parametrize(("width", "theta"), [(width, theta) for width, row in RAMPS.items() for theta in row])
def test_blurred_squares(width, theta):
    """A 24x24 square of 48x48 whose side is a linear ramp: recall falls to 1 / width whatever theta is."""
    distance = np.minimum.reduce(np.meshgrid(*[np.minimum(np.arange(48) - 12, 35 - np.arange(48))] * 2))
    ramp = np.clip((distance + 0.5 + width / 2) / width, 0, 1)
    mask = (distance >= 0).astype(float)
    value = boundary_loss(tensor(ramp[None]), tensor(mask[None]), 3, theta).item()
    assert value == pytest.approx(RAMPS[width][theta], abs=0.02)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_empty_and_full_masks_have_finite_gradients(fill):
    logits = [torch.randn(2, 1, 9, 9, requires_grad=True) for _ in range(3)]
    terms = saliency_loss(Logits(*logits), torch.full((2, 1, 9, 9), fill), LossConfig())
    terms.total.backward()
    assert terms.polish.item() == 0
    assert all(torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0 for x in logits)


@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0])
def test_gradients_are_finite_at_extreme_logits(scale):
    logits = [(scale * torch.randn(2, 1, 9, 9)).requires_grad_() for _ in range(3)]
    saliency_loss(Logits(*logits), tensor(random_maps(1, 2, 9)[1]), LossConfig()).total.backward()
    assert all(torch.isfinite(x.grad).all() for x in logits)


def test_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    mask = (torch.rand(1, 1, 6, 6) > 0.5).double()
    p = torch.rand(1, 1, 6, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, mask) + boundary_loss(x, mask, 3, 5), (p,), eps=1e-7)


def test_float32_inside_autocast():
    logits = [torch.full((1, 1, 320, 320), 4.0, dtype=torch.bfloat16) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        terms = saliency_loss(Logits(*logits), torch.ones(1, 1, 320, 320), LossConfig(bce=0, polish=0))
    assert terms.total.dtype == torch.float32
    assert terms.iou.item() == pytest.approx(3 * (1 - torch.sigmoid(torch.tensor(4.0)).item()), rel=1e-3)


def test_a_batch_is_the_mean_of_its_parts():
    torch.manual_seed(0)
    logits, mask = [torch.randn(4, 1, 12, 12) for _ in range(3)], (torch.rand(4, 1, 12, 12) > 0.5).float()
    mask[1] = 0  # without a boundary, in one part alone
    whole = saliency_loss(Logits(*logits), mask, LossConfig())
    parts = [
        saliency_loss(Logits(*(one[half] for one in logits)), mask[half], LossConfig())
        for half in (slice(0, 2), slice(2, 4))
    ]
    for value, *of_parts in zip(whole, *parts, strict=True):
        assert value.item() == pytest.approx(np.mean([part.item() for part in of_parts]), rel=1e-5)


@pytest.mark.parametrize(("done", "share"), [(0.1, 0.2), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_the_polishing_loss_ramps_in_alone(done, share):
    torch.manual_seed(0)
    logits, mask = Logits(*torch.randn(3, 2, 1, 12, 12)), (torch.rand(2, 1, 12, 12) > 0.5).float()
    whole, ramped = saliency_loss(logits, mask, LossConfig()), saliency_loss(logits, mask, LossConfig(ramp=0.5), done)
    assert ramped.polish.item() == pytest.approx(share * whole.polish.item(), rel=1e-5)
    assert ramped.bce == whole.bce and ramped.iou == whole.iou


def test_terms_that_are_off_are_zero():
    logits = Logits(*(torch.randn(1, 1, 8, 8) for _ in range(3)))
    terms = saliency_loss(logits, torch.ones(1, 1, 8, 8), LossConfig(bce=1, iou=0, polish=0))
    assert terms.iou == 0 and terms.polish == 0 and terms.total == terms.bce > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"theta0": 4}, "^theta0: 4 pixels, expected odd numbers"),
        ({"theta": (3, 5, 1)}, r"^theta: \(3, 5, 1\), expected a number from 3"),
        ({"iou": -1}, "^iou: -1, expected a number from 0"),
        ({"ramp": 1.5}, "^ramp: 1.5, expected a number from 0 up to 1"),
        ({"bce": 0, "iou": 0, "polish": 0}, "nothing would be learnt"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(SettingError, match=message):
        LossConfig(**settings)


def test_distillation_is_its_formula_computed_by_hand():
    """One pixel an image, so that everything is a logarithm: the soft map says .8, P1 .5, P2 .75, P3 .25."""
    mask, soft_map, weight = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.8), 0.25
    logits = Logits(*(torch.full((1, 1, 1, 1), value) for value in (0.0, math.log(3), -math.log(3))))
    config = LossConfig(bce=2, iou=0, polish=0, outputs=(1.0, 0.5, 0.25))
    plain = saliency_loss(logits, mask, config)
    bce = 0.8 * math.log(2) + 0.2 * math.log(2)
    bce += 0.5 * (0.8 * math.log(4 / 3) + 0.2 * math.log(4))
    bce += 0.25 * (0.8 * math.log(4) + 0.2 * math.log(4 / 3))
    hard = 2 * (math.log(2) + 0.5 * math.log(4 / 3) + 0.25 * math.log(4))
    terms = distilled(plain, logits, soft_map, config, weight)
    assert plain.total.item() == pytest.approx(hard) and plain.distillation == 0
    assert terms.distillation.item() == pytest.approx(0.25 * bce) and terms.bce.item() == pytest.approx(0.75 * hard)
    assert terms.total.item() == pytest.approx(0.75 * hard + 0.25 * bce)


def test_the_gradient_of_distillation_pulls_every_output_to_the_soft_map():
    torch.manual_seed(0)
    mask, soft_map = (torch.rand(2, 1, 9, 9) > 0.5).float(), torch.rand(2, 1, 9, 9)
    outputs = [torch.randn(2, 1, 9, 9, requires_grad=True) for _ in range(3)]
    logits, config = Logits(*outputs), LossConfig(outputs=(1.0, 0.5, 0.0))
    distilled(saliency_loss(logits, mask, config), logits, soft_map, config, 1.0).total.backward()
    for output, weight in zip(outputs, config.outputs, strict=True):
        expected = weight * (torch.sigmoid(output.detach()) - soft_map) / output.numel()
        torch.testing.assert_close(output.grad, expected)


def test_distillation_of_a_batch_is_the_mean_of_its_parts_in_float32():
    torch.manual_seed(0)
    mask, soft_map = (torch.rand(4, 1, 12, 12) > 0.5).float(), torch.rand(4, 1, 12, 12)
    outputs, config = [torch.randn(4, 1, 12, 12).bfloat16() for _ in range(3)], LossConfig()

    def terms(part):
        logits = Logits(*(one[part] for one in outputs))
        with torch.autocast("cpu", torch.bfloat16):
            return distilled(saliency_loss(logits, mask[part], config), logits, soft_map[part], config, 0.5)

    whole, *parts = (terms(part) for part in (slice(0, 4), slice(0, 2), slice(2, 4)))
    assert whole.total.dtype == torch.float32
    for value, *of_parts in zip(whole, *parts, strict=True):
        assert value.item() == pytest.approx(np.mean([part.item() for part in of_parts]), rel=1e-5)
