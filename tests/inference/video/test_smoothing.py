"""Maps of generated clips: flicker falls, the error does not rise, and nothing is carried across a cut."""

import cv2
import numpy as np
import pytest

from benchmarks.clips import MOTIONS, error, flicker, make_clip
from data.textures import clouds, coloured
from inference.saliency import restore
from inference.video.smoothing import SURE, Smoother, small_frame

SIDE = 96


def still(seed=0, height=150, width=200):
    """A textured image with a textured disc, and its mask."""
    rng = np.random.default_rng(seed)
    green, red = np.array([[0.0, 0.2, 0.1], [0.5, 0.9, 0.6]]), np.array([[0.4, 0.0, 0.0], [1.0, 0.7, 0.3]])
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), height // 4, 255, -1, cv2.LINE_AA)
    planes = [coloured(clouds(rng, width)[:height], palette) for palette in (green, red)]
    share = mask[..., None] / 255
    return np.rint(255 * ((1 - share) * planes[0] + share * planes[1])).astype(np.uint8), mask


def noisy_logits(clip, seed=0):
    """Logits of a network that is right on average and flickers."""
    rng = np.random.default_rng(seed)
    for mask in clip.masks:
        true = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        noise = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), 6)
        yield (6 * true - 3 + 2 * noise / noise.std()).astype(np.float32)


def smoothed(frames, logits):
    smoother = Smoother(SIDE)
    return [smoother(small_frame(frame, SIDE), one) for frame, one in zip(frames, logits, strict=True)]


@pytest.mark.parametrize("motion", MOTIONS)
def test_flicker_is_halved_and_the_error_does_not_rise(motion):
    clip = make_clip(*still(), motion, 10)
    alone = list(noisy_logits(clip))
    size = clip.masks[0].shape
    before, after = ([restore(one, size) for one in made] for made in (alone, smoothed(clip.frames, alone)))
    assert flicker(after, clip) <= 0.5 * flicker(before, clip)
    assert error(after, clip) <= error(before, clip)


def test_the_true_maps_of_a_clip_do_not_flicker():
    for motion in MOTIONS:
        clip = make_clip(*still(), motion, 6)
        assert len(clip.frames) == len(clip.masks) == 6 and len(clip.sources) == 5
        assert flicker(clip.masks, clip) < 0.004 and error(clip.masks, clip) == 0
        assert flicker([one[:, ::-1].copy() for one in clip.masks], clip) > (
            0.004 if motion in ("pan", "object") else 0
        )


def test_nothing_is_carried_across_a_cut():
    first, second = (make_clip(*still(seed), "pan", 4, seed) for seed in (1, 2))
    logits = [*noisy_logits(first), *(-one for one in noisy_logits(second))]
    after = smoothed([*first.frames, *second.frames], logits)
    np.testing.assert_array_equal(after[4], np.clip(logits[4], -SURE, SURE))
    assert np.abs(after[5] - logits[5]).mean() > 0.1


def test_a_still_scene_keeps_its_map():
    image, _ = still()
    logits = np.random.default_rng(0).uniform(-5, 5, (SIDE, SIDE)).astype(np.float32)
    for one in smoothed([image] * 4, [logits] * 4):
        np.testing.assert_allclose(one, logits, atol=0.05)


@pytest.mark.parametrize("frame", [np.zeros((1, 1, 3), np.uint8), np.full((40, 7, 3), 255, np.uint8)])
def test_frames_without_texture(frame):
    logits = [np.full((SIDE, SIDE), value, np.float32) for value in (50, -50, 1)]
    after = smoothed([frame] * 3, logits)
    assert all(one.dtype == np.float32 and np.isfinite(one).all() for one in after)
    assert after[0].max() == SURE and -SURE < after[1].mean() < SURE


def test_the_given_logits_stay_as_they_were():
    image, _ = still()
    logits = [np.full((SIDE, SIDE), 20, np.float32) for _ in range(2)]
    smoothed([image] * 2, logits)
    assert all((one == 20).all() for one in logits)
