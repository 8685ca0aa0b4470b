"""Soft maps: found by name, checked before a training, and augmented as the mask of their image."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.datasets import EpochBatches, SaliencyDataset, SampleKey, make_loader
from data.image_io import read_grey, write_png
from data.layouts import Pair, find_pairs
from data.settings import AugmentConfig
from data.soft_maps import DistillationDataset, SoftMapError, SoftMaps, read_soft_map
from data.transforms import TrainTransform
from tests.data.test_transforms import CONFIGS, SIDES, discs
from tests.soft_maps import write_soft_maps

TURNED = AugmentConfig(flip=0.5, crop=0.4, rotate=30, colour=0.2)
COUNT = 7


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Seven images of 50x40 pixels, two of them below a folder, and their soft maps in `soft`."""
    for index in range(COUNT):
        name = f"{'deep/' * (index > 4)}{index}.png"
        image, mask = discs(40, 50)
        write_png(tmp_path / "data/images" / name, np.roll(image, 3 * index, 1))
        write_png(tmp_path / "data/masks" / name, np.roll(mask, 3 * index, 1))
    write_soft_maps(tmp_path / "data", tmp_path / "soft")
    return find_pairs(tmp_path / "data")


def found(pairs: list[Pair], folder: Path) -> SoftMaps:
    return SoftMaps.find(folder, pairs)


def line(call) -> str:
    with pytest.raises(SoftMapError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ geometry


@given(height=SIDES, width=SIDES, size=st.integers(4, 64), config=CONFIGS, seed=st.integers(0, 99))
def test_a_map_equal_to_the_mask_is_augmented_as_the_mask(height, width, size, config, seed):
    image, mask = discs(height, width)
    transform = TrainTransform(config)
    _, wanted = transform(image, mask, size, np.random.default_rng(seed))
    soft = transform.soft_map(mask, size, np.random.default_rng(seed))
    assert soft.shape == wanted.shape and soft.dtype == torch.float32 and soft.min() >= 0 and soft.max() <= 1
    assert torch.equal((soft * 255 > 127.5).float(), wanted)


def test_grey_values_are_kept():
    image = np.zeros((40, 50, 3), np.uint8)
    soft = TrainTransform(TURNED).soft_map(np.full((40, 50), 77, np.uint8), 64, np.random.default_rng(1))
    assert soft[0, 32, 32].item() == pytest.approx(77 / 255), "no threshold"
    _, mask = TrainTransform(TURNED)(image, np.full((40, 50), 200, np.uint8), 64, np.random.default_rng(1))
    # The corners are background, as in the mask; a pixel at their border is foreground if .64 of it is inside.
    assert soft.min() == 0 and soft[mask == 0].max() < 0.65 * 77 / 255 and soft[mask == 1].min() > 0.63 * 77 / 255


# ------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("cache", [False, True])
def test_images_and_masks_are_those_without_soft_maps(pairs, tmp_path, cache):
    transform = TrainTransform(TURNED)
    plain = SaliencyDataset(pairs, transform, 7)
    taught = DistillationDataset(found(pairs, tmp_path / "soft"), transform, 7, cache)
    for index in range(COUNT):
        one, other = plain[SampleKey(2, index, 48)], taught[SampleKey(2, index, 48)]
        assert one.soft_map is None and torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)
        file, own = tmp_path / "soft" / f"{pairs[index].name}.png", plain.generator(SampleKey(2, index, 48))
        soft = transform.soft_map(read_grey(file), 48, own)
        assert torch.equal(other.soft_map, soft) and len(soft.unique()) > 3


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_the_maps_of_their_images(pairs, tmp_path, workers):
    taught = DistillationDataset(found(pairs, tmp_path / "soft"), TrainTransform(TURNED), 7)
    for batch in make_loader(taught, EpochBatches(COUNT, 3, [32, 48]), workers):
        size = batch.image.shape[-1]
        assert batch.soft_map.shape == batch.mask.shape == (len(batch.index), 1, size, size)
        for index, soft_map in zip(batch.index.tolist(), batch.soft_map, strict=True):
            assert torch.equal(soft_map, taught[SampleKey(0, index, size)].soft_map)
    (batch, *_) = make_loader(SaliencyDataset(pairs, TrainTransform()), EpochBatches(COUNT, 3, [32]), 0)
    assert batch.soft_map is None


@pytest.mark.parametrize(("size", "least"), [((20, 25), 0.95), ((160, 200), 0.97), ((64, 64), 0.97)])
def test_a_map_of_another_size_is_resized_to_the_mask(tmp_path, size, least):
    mask = discs(40, 50)[1]
    write_png(tmp_path / "map.png", cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST))
    soft = read_soft_map(tmp_path / "map.png", mask.shape)
    assert soft.shape == mask.shape and soft.dtype == np.uint8
    assert ((soft > 127) == (mask > 127)).mean() > least


# ---------------------------------------------------------------------------------------- names and refusals


def test_maps_are_found_by_name_and_others_are_ignored(pairs, tmp_path):
    write_png(tmp_path / "soft" / "of-the-validation-split.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "soft" / "notes.txt").write_text("")
    maps = found(pairs, tmp_path / "soft")
    assert [file.relative_to(tmp_path / "soft").with_suffix("").as_posix() for file in maps.files] == [
        pair.name for pair in pairs
    ]
    assert maps.check() == 0


def test_a_missing_map_is_named_and_counted(pairs, tmp_path):
    for name in ("1.png", "deep/6.png"):
        (tmp_path / "soft" / name).unlink()
    text = line(lambda: found(pairs, tmp_path / "soft"))
    assert text.startswith(f"{tmp_path / 'soft'}: 2 of 7 training images have no soft map (1, deep/6); ")
    text = line(lambda: found(pairs, tmp_path))
    assert "7 of 7 training images have no soft map (0, 1, 2, 3, 4 and 2 more); the folder holds maps such as " in text
    assert "no such folder of soft maps" in line(lambda: found(pairs, tmp_path / "gone"))
    write_png(tmp_path / "soft" / "1.png", np.zeros((4, 4), np.uint8))
    write_png(tmp_path / "soft" / "deep/6.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "soft" / "0.jpg").write_bytes(b"")
    assert "1 of 7 training images have two soft maps (0). Keep one" in line(lambda: found(pairs, tmp_path / "soft"))


def test_maps_that_cannot_be_used_are_counted_by_their_fault(pairs, tmp_path):
    soft = tmp_path / "soft"
    (soft / "0.png").write_bytes((soft / "0.png").read_bytes()[:40])
    (soft / "2.png").write_bytes(b"")
    write_png(soft / "1.png", np.stack([discs(40, 50)[1], *[np.zeros((40, 50), np.uint8)] * 2], -1))
    write_png(soft / "3.png", np.zeros((50, 40), np.uint8))  # turned: written without the orientation of its image
    write_png(soft / "4.png", np.zeros((40, 90), np.uint8))
    text = line(found(pairs, soft).check)
    assert text.startswith(
        f"{soft}: of 7 soft maps 2 unreadable (0, 2); 1 not grey (1); "
        f"2 of other proportions than the image (3, 4). Write them again"
    )


def test_own_sizes_of_a_teacher_are_counted(pairs, tmp_path):
    soft = tmp_path / "soft"
    for index, shape in enumerate([(64, 64), (80, 100), (32, 40), (32, 32, 3)]):
        write_png(soft / f"{index}.png", np.full(shape, 200, np.uint8))
    assert found(pairs, soft).check() == 4, "squares, the image's proportions, and grey that is saved as RGB"


def test_maps_of_0_and_1_are_refused(pairs, tmp_path):
    for pair in pairs:
        write_png(tmp_path / "soft" / f"{pair.name}.png", discs(40, 50)[1] // 255)
    text = line(found(pairs, tmp_path / "soft").check)
    assert "the greatest value of all 7 soft maps is 1, expected up to 255. Multiply" in text


def test_the_fingerprint_is_of_names_and_sizes(pairs, tmp_path):
    maps = found(pairs, tmp_path / "soft")
    before = maps.fingerprint()
    moved = (tmp_path / "soft").rename(tmp_path / "moved")
    assert found(pairs, moved).fingerprint() == before and len(before) == 16
    assert found(pairs[1:], moved).fingerprint() != before
    write_png(moved / "0.png", np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8))
    assert found(pairs, moved).fingerprint() != before
