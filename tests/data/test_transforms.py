"""Image and mask move together, and what is drawn depends only on the generator."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.settings import AugmentConfig
from data.transforms import MEAN, STD, EvalTransform, TrainTransform, binarise, normalise, prepare_image
from settings.limits import SettingError

SIDES = st.integers(8, 90)
CONFIGS = st.builds(
    AugmentConfig,
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    crop=st.sampled_from([0.0, 1 / 8, 0.5]),
    rotate=st.sampled_from([0.0, 10.0, 180.0]),
    colour=st.sampled_from([0.0, 0.3]),
)


def discs(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A white disc off the middle of a black image, and the mask of it."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 3, height // 2), min(height, width) // 4, 255, -1)
    return np.repeat(mask[..., None], 3, 2), mask


def grey(image: torch.Tensor) -> np.ndarray:
    """The first channel, 0 to 1, of a normalised image."""
    return image[0].numpy() * STD[0] + MEAN[0]


@given(height=SIDES, width=SIDES, size=st.integers(4, 64), config=CONFIGS, seed=st.integers(0, 99))
def test_shapes_binary_and_deterministic(height: int, width: int, size: int, config: AugmentConfig, seed: int):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = image[..., 0].copy()
    first = TrainTransform(config)(image, mask, size, np.random.default_rng(seed))
    again = TrainTransform(config)(image, mask, size, np.random.default_rng(seed))
    assert first[0].shape == (3, size, size) and first[0].dtype == torch.float32
    assert first[1].shape == (1, size, size) and first[1].dtype == torch.float32
    assert set(first[1].unique().tolist()) <= {0.0, 1.0}
    assert torch.isfinite(first[0]).all()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    np.testing.assert_array_equal(mask, image[..., 0])  # the arrays given are left as they are


@given(
    height=st.integers(40, 200), width=st.integers(40, 200), seed=st.integers(0, 999), turn=st.sampled_from([0.0, 15.0])
)
def test_image_and_mask_agree(height: int, width: int, seed: int, turn: float):
    image, mask = discs(height, width)
    config = AugmentConfig(rotate=turn)
    seen, wanted = TrainTransform(config)(image, mask, 64, np.random.default_rng(seed))
    inside = wanted[0].numpy() > 0
    # A turned image has the mean colour, which is darker than the threshold, outside.
    assert np.mean((grey(seen) >= 0.501) == inside) > 0.995


@given(height=SIDES, width=SIDES, seed=st.integers(0, 99))
def test_a_flip_is_the_mirror_image(height: int, width: int, seed: int):
    image = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = image[..., 1].copy()
    plain = TrainTransform(AugmentConfig(flip=0))(image, mask, 32, np.random.default_rng(seed))
    mirrored = TrainTransform(AugmentConfig(flip=1))(image, mask, 32, np.random.default_rng(seed))
    # Both are sampled at the same points up to OpenCV's 1/32 pixel.
    assert (plain[0].flip(-1) - mirrored[0]).abs().max() < 0.35
    assert (plain[1].flip(-1) == mirrored[1]).float().mean() > 0.97


def test_half_of_all_are_flipped():
    image, mask = discs(64, 64)
    transform = TrainTransform(AugmentConfig(crop=0))
    lefts = 0
    for seed in range(400):
        _, seen = transform(image, mask, 32, np.random.default_rng(seed))
        lefts += int(seen[..., :16].sum() > seen[..., 16:].sum())
    assert 160 < lefts < 240


def test_the_crop_keeps_seven_eighths_and_reaches_every_side():
    # The value of a pixel is its column, so that the square shows which columns were kept.
    image = np.repeat(np.tile(np.arange(240, dtype=np.uint8), (80, 1))[..., None], 3, 2)
    mask = np.zeros((80, 240), np.uint8)
    transform = TrainTransform(AugmentConfig(flip=0))
    kept = []
    for seed in range(300):
        seen = grey(transform(image, mask, 240, np.random.default_rng(seed))[0]) * 255
        kept.append((seen[:, 0].min(), seen[:, -1].max()))
    lefts, rights = np.array(kept).T
    widths = rights - lefts + 1
    assert widths.min() >= 210 - 1 and widths.max() >= 238
    assert widths.min() <= 213 and lefts.min() <= 1 and rights.max() >= 238 and lefts.max() > 20


@given(height=SIDES, width=SIDES, size=st.integers(4, 96))
def test_without_augmentation_it_is_the_image_resized(height: int, width: int, size: int):
    if max(height, width) >= 2 * size:
        return  # shrunk by more than two, training averages and testing does not
    image = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5), 2)
    config = AugmentConfig(flip=0, crop=0)
    seen, _ = TrainTransform(config)(image, image[..., 0], size, np.random.default_rng(0))
    assert (seen - prepare_image(image, size)).abs().max() < 0.1  # 5 of 255 grey levels


def test_strong_shrinking_averages():
    # A checkerboard of single pixels is grey from afar; sampling alone would give black or white.
    image = np.repeat((255 * (np.indices((512, 512)).sum(0) % 2)).astype(np.uint8)[..., None], 3, 2)
    mask = np.zeros((512, 512), np.uint8)
    for turn in (0.0, 5.0):
        config = AugmentConfig(flip=0, crop=0, rotate=turn)
        seen = grey(TrainTransform(config)(image, mask, 64, np.random.default_rng(0))[0])
        assert np.abs(seen[8:-8, 8:-8] - 0.5).max() < 0.02


def test_a_turn_fills_with_the_mean_colour_and_no_object():
    image, mask = np.full((60, 60, 3), 255, np.uint8), np.full((60, 60), 255, np.uint8)
    config = AugmentConfig(flip=0, crop=0, rotate=45)
    for seed in range(20):
        seen, wanted = TrainTransform(config)(image, mask, 60, np.random.default_rng(seed))
        corner = wanted[0, 0, 0] == 0
        if corner:
            assert seen[:, 0, 0].abs().max() < 0.02
            return
    pytest.fail("no turn uncovered a corner")


def test_a_turn_keeps_shapes_in_a_long_image():
    # A disc in an image of 2:1 is an upright ellipse in the square, turned or not: turning comes before squashing.
    image = np.zeros((100, 200, 3), np.uint8)
    mask = np.zeros((100, 200), np.uint8)
    cv2.circle(mask, (100, 50), 30, 255, -1)
    config = AugmentConfig(flip=0, crop=0, rotate=45)
    _, seen = TrainTransform(config)(image, mask, 100, np.random.default_rng(3))
    rows, columns = np.nonzero(seen[0].numpy())
    assert np.ptp(rows) + 1 == pytest.approx(61, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(31, abs=2)


def test_colour_changes_the_image_and_not_the_mask():
    rng = np.random.default_rng(4)
    image = rng.integers(60, 190, (40, 40, 3), dtype=np.uint8)
    mask = np.where(image[..., 0] > 128, 255, 0).astype(np.uint8)
    plain, plain_mask = TrainTransform(AugmentConfig(flip=0, crop=0))(image, mask, 40, np.random.default_rng(5))
    config = AugmentConfig(flip=0, crop=0, colour=0.4)
    means, spreads = [], []
    for seed in range(60):
        seen, seen_mask = TrainTransform(config)(image, mask, 40, np.random.default_rng(seed))
        assert torch.equal(seen_mask, plain_mask)
        means.append(float(grey(seen).mean() / grey(plain).mean()))
        spreads.append(float(grey(seen).std() / grey(plain).std()))
    assert min(means) < 0.75 and max(means) > 1.25 and min(means) > 0.55 and max(means) < 1.45
    assert min(spreads) < 0.7 and max(spreads) > 1.2


@pytest.mark.parametrize("size", [16, (24, 40)])
def test_preparation_is_the_published_one(size: int | tuple[int, int]):
    image = np.random.default_rng(6).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    height, width = (size, size) if isinstance(size, int) else size
    resized = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    wanted = (resized / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    got = prepare_image(image, size)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), wanted.transpose(2, 0, 1), atol=1e-6)


def test_normalise_and_binarise():
    values = np.arange(256, dtype=np.uint8)
    image = np.repeat(values[:, None, None], 3, 2)
    wanted = (values[:, None] / 255.0 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(normalise(image)[:, :, 0].numpy().T, wanted, atol=1e-6)
    assert binarise(np.array([[0, 127, 128, 255]], np.uint8)).tolist() == [[[0, 0, 1, 1]]]


def test_evaluation_takes_the_whole_image():
    image, mask = discs(90, 60)
    seen, wanted = EvalTransform()(image, mask, 48)
    assert torch.equal(seen, prepare_image(image, 48))
    assert np.mean((grey(seen) >= 0.5) == (wanted[0].numpy() > 0)) > 0.995


@pytest.mark.parametrize(
    ("name", "value"), [("flip", 1.5), ("crop", -0.1), ("crop", 1.0), ("rotate", 200.0), ("colour", 2.0)]
)
def test_settings_out_of_range(name: str, value: float):
    with pytest.raises(SettingError, match=rf"^{name}: {value}, expected a number from 0 up to"):
        AugmentConfig(**{name: value})
