"""Masks of a benchmark, with and without images."""

import shutil

import pytest

from data.layouts import LayoutError
from evaluation.targets import find_targets


def test_with_images(bench):
    found = find_targets(bench / "data")
    assert len(found) == 8
    assert all(target.image is not None and target.image.stem == target.mask.stem for target in found)


@pytest.mark.parametrize("inside", ["", "masks", "GT"])
def test_masks_alone_in_the_folder_or_below_it(bench, tmp_path, inside):
    shutil.copytree(bench / "data/masks", tmp_path / "set" / inside, dirs_exist_ok=True)
    found = find_targets(tmp_path / "set")
    assert [target.name for target in found] == [target.name for target in find_targets(bench / "data")]
    assert all(target.image is None for target in found)


def test_a_mask_without_its_image_is_kept_and_an_image_without_its_mask_is_an_error(bench, tmp_path):
    shutil.copytree(bench / "data", tmp_path / "set")
    min((tmp_path / "set/images").iterdir()).unlink()
    found = find_targets(tmp_path / "set")
    assert [target.image is None for target in found] == [True] + [False] * 7
    max((tmp_path / "set/masks").iterdir()).unlink()
    with pytest.raises(LayoutError, match="1 without a mask"):
        find_targets(tmp_path / "set")


def test_neither_images_nor_masks(tmp_path):
    with pytest.raises(LayoutError):
        find_targets(tmp_path)
