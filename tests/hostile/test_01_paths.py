"""Point 1: an output never falls on an input, by whatever links; nothing is written before that is known."""

import shutil

import pytest

from tests.hostile.conftest import contents, make_image
from utils.errors import UserError


def masks_linked_to_the_maps(photos, out):
    """A dataset whose folder of masks is a link to where its maps would go."""
    data = out.parent / "data"
    shutil.copytree(photos, data / "images")
    for place in ("a", "b", "deep/c"):
        make_image(out / "maps/X" / f"{place}.png")
    (data / "masks").symlink_to(out / "maps/X")
    return ["--data", f"X={data}"]


def maps_linked_to_the_input(photos, out):
    out.mkdir()
    (out / "maps").symlink_to(photos)
    return ["--images", photos]


def cutouts_linked_to_the_input(photos, out):
    out.mkdir()
    (out / "cutout").symlink_to(photos)
    return ["--images", photos, "--cutout"]


def an_image_linked_to_its_map(photos, out):
    make_image(out / "maps/d.png")
    (photos / "d.png").symlink_to(out / "maps/d.png")
    return ["--images", photos]


def a_map_hard_linked_to_its_image(photos, out):
    (out / "maps").mkdir(parents=True)
    (out / "maps/a.png").hardlink_to(photos / "a.png")
    return ["--images", photos]


def the_sheet_as_image(photos, out):
    make_image(out / "sheet.png")
    return ["--images", out / "sheet.png", "--sheet"]


def one_file_as_both(photos, out):
    return ["--images", photos / "a.png", "--out", photos / "a.png"]


def an_output_below_the_input(photos, out):
    return ["--images", photos, "--out", photos / "new/runs"]


@pytest.mark.parametrize(
    "arrange",
    [
        masks_linked_to_the_maps, maps_linked_to_the_input, cutouts_linked_to_the_input, an_image_linked_to_its_map,
        a_map_hard_linked_to_its_image, the_sheet_as_image, one_file_as_both, an_output_below_the_input,
    ],
)  # fmt: skip
def test_the_inputs_stay(run, photos, tmp_path, arrange):
    words = arrange(photos, tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="the output is the input|lies inside the (input|output) folder") as caught:
        run(*words)
    assert contents(tmp_path) == before
    assert str(caught.value).count(str(tmp_path)) == 2, "both paths are named"


def test_weights_that_an_output_would_replace(run, photos, tiny_weights, tmp_path):
    copy = tmp_path / "weights.png"
    shutil.copy(tiny_weights, copy)
    with pytest.raises(UserError, match="the output is the input"):
        run("--images", photos / "a.png", "--weights", copy, "--out", copy)
    assert copy.read_bytes() == tiny_weights.read_bytes()
