"""Every benchmark's layout as it is downloaded, and what must not be guessed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.layouts import LayoutError, find_images, find_pairs, survey

NAMES = ["0001", "0002", "b.c"]


def touch(folder: Path, names: list[str], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").touch()


LAYOUTS = [
    ("DUTS-TR-Image", "DUTS-TR-Mask"),
    ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ("images", "ground_truth_mask"),  # ECSSD
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    ("imgs", "gt"),  # HKU-IS
    ("Imgs", "Imgs"),  # PASCAL-S
    ("datasets/imgs", "datasets/masks"),  # PASCAL-S with its toolbox
    ("test_images", "test_masks"),
    ("images", "masks"),
    ("image", "mask"),
    ("imgs", "gts"),
    ("im", "gt"),
    ("Image", "GT"),
    ("JPEGImages", "Annotations"),
    ("images/images", "masks"),  # an archive unpacked into a folder of its own name
    (".", "."),
]


ABOVE = [one for one in LAYOUTS if not one[0].startswith("datasets")]  # two folders down is not searched


@pytest.mark.parametrize(
    ("images", "masks", "above"), [(*one, False) for one in LAYOUTS] + [(*one, True) for one in ABOVE]
)
def test_layouts(tmp_path: Path, images: str, masks: str, above: bool):
    root = tmp_path / "set" if above else tmp_path
    touch(root / images, NAMES, ".jpg")
    touch(root / masks, NAMES, ".png")
    (tmp_path / "README.txt").touch()
    (tmp_path / "__MACOSX" / "images").mkdir(parents=True)
    pairs = find_pairs(tmp_path)
    assert [pair.name for pair in pairs] == NAMES
    assert [pair.image for pair in pairs] == [root / images / f"{name}.jpg" for name in NAMES]
    assert [pair.mask for pair in pairs] == [root / masks / f"{name}.png" for name in NAMES]


def test_several_folders_of_each_pair_by_their_other_words(tmp_path: Path):
    for name in ("DUTS-TR-Image", "DUTS-TE-Image"):
        touch(tmp_path / name, NAMES, ".jpg")
        touch(tmp_path / name.replace("Image", "Mask"), NAMES, ".png")
    with pytest.raises(LayoutError, match=r"2 datasets \(DUTS-TE-Image \+ DUTS-TE-Mask, DUTS-TR-Image"):
        find_pairs(tmp_path)


def test_several_data_sets_are_named(tmp_path: Path):
    for name in ("ECSSD", "PASCAL-S"):
        touch(tmp_path / name / "Imgs", NAMES, ".jpg")
        touch(tmp_path / name / "Imgs", NAMES, ".png")
    with pytest.raises(LayoutError, match=r"2 datasets \(ECSSD/Imgs, PASCAL-S/Imgs\)\. Give the folder of one"):
        find_pairs(tmp_path)


def test_subfolders_pair_by_path(tmp_path: Path):
    for part in ("a", "b/c"):
        touch(tmp_path / "images" / part, ["1"], ".JPG")
        touch(tmp_path / "masks" / part, ["1"], ".png")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a/1", "b/c/1"]


def test_hidden_and_foreign_files_are_no_images(tmp_path: Path):
    touch(tmp_path / "images", NAMES, ".jpg")
    touch(tmp_path / "masks", NAMES, ".png")
    touch(tmp_path / "images", ["._0001"], ".jpg")
    touch(tmp_path / "images", ["Thumbs"], ".db")
    assert len(find_pairs(tmp_path)) == len(NAMES)


def test_what_has_no_partner_is_an_error_with_names(tmp_path: Path):
    touch(tmp_path / "images", ["a", "b", "c"], ".jpg")
    touch(tmp_path / "masks", ["b", "c", "d"], ".png")
    with pytest.raises(LayoutError, match=r"1 without a mask \(a\); 1 without an image \(d\).*list file"):
        find_pairs(tmp_path)


def test_many_names_are_counted_not_listed(tmp_path: Path):
    touch(tmp_path / "images", [f"{n:02}" for n in range(20)], ".jpg")
    touch(tmp_path / "masks", ["00"], ".png")
    with pytest.raises(LayoutError, match=r"19 without a mask \(01, 02, 03, 04, 05 and 14 more\)"):
        find_pairs(tmp_path)


def test_two_images_of_one_name(tmp_path: Path):
    touch(tmp_path / "images", ["a", "b"], ".jpg")
    touch(tmp_path / "images", ["a"], ".webp")
    touch(tmp_path / "masks", ["a", "b"], ".png")
    with pytest.raises(LayoutError, match=r"1 found twice \(a\)"):
        find_pairs(tmp_path)


def test_no_pair_at_all(tmp_path: Path):
    touch(tmp_path / "images", ["a"], ".jpg")
    touch(tmp_path / "masks", ["b"], ".png")
    with pytest.raises(LayoutError, match=r"images and .*masks: no pair of equal names at all: 1 without"):
        find_pairs(tmp_path)


def test_nothing_there_says_what_was_looked_for(tmp_path: Path):
    touch(tmp_path / "photos", ["a"], ".jpg")
    with pytest.raises(LayoutError, match=r"Searched it and the folders in it for .*It holds: photos/"):
        find_pairs(tmp_path)
    with pytest.raises(LayoutError, match="no such folder"):
        find_pairs(tmp_path / "nowhere")


def test_empty_folders(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(LayoutError, match="both are empty"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("lines", ["b.c\n0001\n", "# first\n\n0001.jpg\r\nb.c.jpg\n", "0001.png\n b.c \n0001"])
def test_list_file(tmp_path: Path, lines: str):
    touch(tmp_path / "images", [*NAMES, "alone"], ".jpg")
    touch(tmp_path / "masks", NAMES, ".png")
    (tmp_path / "train.txt").write_text(lines)
    assert [pair.name for pair in find_pairs(tmp_path, tmp_path / "train.txt")] == ["0001", "b.c"]


def test_list_file_that_names_what_is_not_there(tmp_path: Path):
    touch(tmp_path / "images", NAMES, ".jpg")
    touch(tmp_path / "masks", NAMES, ".png")
    (tmp_path / "a.txt").write_text("0001\n9999\n")
    with pytest.raises(LayoutError, match=r"1 in the list, but with neither image nor mask \(9999\)"):
        find_pairs(tmp_path, tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(LayoutError, match=r"a\.txt: names no image"):
        find_pairs(tmp_path, tmp_path / "a.txt")
    with pytest.raises(LayoutError, match=r"b\.txt: cannot be read"):
        find_pairs(tmp_path, tmp_path / "b.txt")


stems = st.sets(st.text("ab1._-", min_size=1, max_size=4).filter(lambda s: s.strip("._") == s), max_size=8)


@given(images=stems, masks=stems, data=st.data())
def test_every_name_is_told_exactly_once(tmp_path_factory, images: set[str], masks: set[str], data):
    root = tmp_path_factory.mktemp("set")
    for folder, names in (("images", images), ("masks", masks)):
        (root / folder).mkdir()
        for name in names:
            suffix = data.draw(st.sampled_from([".jpg", ".png", ".WEBP"]))
            (root / folder / f"{name}{suffix}").touch()
    if not images & masks:
        with pytest.raises(LayoutError):
            survey(root)
        return
    found = survey(root)
    assert {pair.name for pair in found.pairs} == images & masks
    assert set(found.images_alone) == images - masks
    assert set(found.masks_alone) == masks - images
    assert all(pair.image.stem == pair.mask.stem == pair.name for pair in found.pairs)
    assert bool(found.faults()) == (images != masks)


def test_find_images(tmp_path: Path):
    touch(tmp_path / "b", ["2", "1"], ".JPEG")
    touch(tmp_path, ["0"], ".png")
    touch(tmp_path, ["notes"], ".txt")
    found = find_images(tmp_path)
    assert [one.relative_to(tmp_path).as_posix() for one in found.files] == ["0.png", "b/1.JPEG", "b/2.JPEG"]
    assert find_images(tmp_path / "notes.txt").files == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match=r"holds no image\. Searched it and all folders below it for \.avif, \.bmp"):
        find_images(tmp_path / "empty")
    with pytest.raises(LayoutError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "count"), [("DUTS-TR", 10551), ("DUTS-TE-500", 500), ("ECSSD-250", 250), ("PASCAL-S-100", 100)]
)
def test_real_data_sets(shared: Path, name: str, count: int):
    assert len(find_pairs(shared / "datasets" / name)) == count
