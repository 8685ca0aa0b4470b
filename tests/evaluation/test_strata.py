"""Strata: groups worked out by hand, and scores of a group equal to those of its maps alone."""

import csv
import re

import cv2
import numpy as np
import pytest

import evaluate
from data.image_io import write_png
from evaluation.scoring import score_maps
from evaluation.strata import (
    StrataError,
    check_strata,
    contrast,
    find_strata,
    object_count,
    score_strata,
    touches_border,
)
from evaluation.targets import Target
from tests.scored import bench_pairs


def square(side, top=10, left=10, size=100):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


@pytest.fixture
def targets(tmp_path):
    """Masks of 1 %, 9 % (two objects), 36 % (at the border), nothing; images of growing contrast."""
    two = square(20) | square(22, 60, 60)
    masks = [square(10), two, square(60, 0, 0), np.zeros((100, 100), np.uint8)]
    found = []
    for number, mask in enumerate(masks):
        image = np.full((100, 100, 3), 90, np.uint8)
        image[mask > 0] = 90 + 50 * number
        write_png(tmp_path / "masks" / f"{number}.png", mask)
        write_png(tmp_path / "images" / f"{number}.png", image)
        found.append(Target(str(number), tmp_path / "masks" / f"{number}.png", tmp_path / "images" / f"{number}.png"))
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("area", {"below 5 %": (0,), "5 to 15 %": (1,), "from 35 % on": (2,)}),
        ("count", {"1 object": (0, 2), "2 objects": (1,)}),
        ("border", {"inside the image": (0, 1), "touches the border": (2,)}),
    ],
)
def test_groups_by_hand(targets, kind, expected):
    found = find_strata(kind, targets)
    assert {each.label: each.places for each in found} == expected | {"no foreground or no background": (3,)}
    assert found[-1].places == (3,)


def test_contrast_groups_are_thirds_and_need_images(targets):
    found = find_strata("contrast", targets[:3])
    assert [each.label.split(" ")[0] for each in found] == ["low", "high"]  # two of the three have no colour in common
    assert found[0].places == (0,)
    with pytest.raises(StrataError, match=r"--strata contrast: there is no image of .*0\.png\. Give --data DIR"):
        check_strata(["contrast"], [Target("0", targets[0].mask)])
    with pytest.raises(StrataError, match="is no kind of strata"):
        check_strata(["size"], targets)


def test_contrast_lies_between_equal_and_disjoint_colours():
    mask = square(50) > 0
    image = np.full((100, 100, 3), 128, np.uint8)
    assert contrast(image, mask) == 0
    image[mask] = (255, 0, 0)
    assert contrast(image, mask) == pytest.approx(1)
    image[20:45, 10:60] = 128  # half of the foreground has the background's colour
    assert contrast(image, mask) == pytest.approx((0.5**2 / 1.5 + 0.5**2 / 0.5) / 2)


def test_specks_are_no_objects_and_corners_connect():
    mask = square(30) > 0
    mask[90, 90] = True
    assert object_count(mask) == 1
    mask[40:60, 40:60] = True  # touches the first square at a corner
    assert object_count(mask) == 1
    mask[70:80, 10:20] = True
    assert object_count(mask) == 2
    assert not touches_border(mask)
    mask[99, 5] = True
    assert touches_border(mask)


def test_scores_of_a_group_are_those_of_its_maps(bench):
    pairs = bench_pairs(bench)
    whole = score_maps(pairs, 1)
    targets = [Target(pair.name, pair.mask_path) for pair in pairs]
    strata = find_strata("area", targets)
    assert sorted(place for each in strata for place in each.places) == list(range(len(pairs)))
    for one in score_strata(strata, {"good": whole}, 50):
        alone = score_maps([pairs[place] for place in one.stratum.places], 1)
        assert one.values == pytest.approx(alone.measures, abs=1e-6)
        assert bool(one.intervals) == (len(one.stratum.places) > 1)
        assert all(
            low <= one.values[key] + 1e-6 and one.values[key] <= high + 1e-6
            for key, (low, high) in one.intervals.items()
        )


def test_through_the_command_line_with_masks_alone(bench, tmp_path, capsys):
    maps = [f"good={bench / 'good'}", f"poor={bench / 'poor'}"]
    arguments = ["--data", f"A={bench / 'data/masks'}", "--maps", *maps, "--out", str(tmp_path), "--workers", "1"]
    assert evaluate.main([*arguments, "--resamples", "50", "--strata", "area", "border"]) == 0
    assert capsys.readouterr().err.count("no images of A: sheets and the page show none") == 1
    assert not (tmp_path / "sheets").exists()
    rows = list(csv.DictReader((tmp_path / "strata/A-area.csv").open()))
    assert sum(int(row["images"]) for row in rows if row["method"] == "good") == 8
    worst = list(csv.DictReader((tmp_path / "strata/A-border-worst.csv").open()))
    assert len({row["image"] for row in worst}) == 8
    for stratum in {row["stratum"] for row in worst}:
        means = [(float(row["good"]) + float(row["poor"])) / 2 for row in worst if row["stratum"] == stratum]
        assert means == sorted(means)
    assert "### A by area" in (tmp_path / "strata.md").read_text()
    page = (tmp_path / "index.html").read_text()
    assert [page.count(f'aria-label="Scores of every method by {kind}"') for kind in ("area", "border", "count")] == [
        1,
        1,
        0,
    ]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "the figures of a page share no id"
    assert all(
        (tmp_path / f"strata/A-{kind}.{suffix}").stat().st_size > 1000
        for kind in ("area", "border")
        for suffix in ("pdf", "svg")
    )


def test_strata_that_cannot_be_found_are_refused_before_scoring(bench, tmp_path):
    arguments = ["--data", f"A={bench / 'data/masks'}", "--maps", f"m={bench / 'good'}", "--out", str(tmp_path / "out")]
    with pytest.raises(StrataError, match="no image of"):
        evaluate.main([*arguments, "--strata", "contrast"])
    assert not (tmp_path / "out").exists()
    assert cv2.imread(str(bench / "data/masks")) is None
