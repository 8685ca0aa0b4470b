"""Which images are chosen, and the sheets that show them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data.image_io import read_image, write_png
from evaluation.measures import KEYS
from evaluation.methods import Evaluated, evaluate, gather
from evaluation.metrics import PairScores
from evaluation.report.figures import rendered
from evaluation.report.selection import image_scores, select
from evaluation.report.sheets import draw_sheet, shrink, tiles
from tests.scored import write_bench


def scored(**methods):
    """Only what a selection looks at: every measure of image i is the given value."""
    known = {
        name: SimpleNamespace(rows=[PairScores(f"{i}", dict.fromkeys(KEYS, v), 255) for i, v in enumerate(vs)])
        for name, vs in methods.items()
    }
    return Evaluated(None, known)


def test_best_median_and_worst_by_the_mean_of_the_methods():
    found = select(scored(a=[0.1, 0.9, 0.5, 0.8, 0.3], b=[0.3, 0.9, 0.4, 0.4, 0.0]), 1)
    assert found.kinds == {"best": (1,), "median": (2,), "worst": (4,), "disagreement": (3,)}


def test_small_errors_are_best():
    found = select(scored(a=[0.1, 0.9, 0.5]), 1, "mae")
    assert (found.kinds["best"], found.kinds["worst"]) == ((0,), (1,))
    assert "disagreement" not in found.kinds


def test_largest_disagreement_first():
    found = select(scored(a=[0.5, 0.9, 0.2], b=[0.6, 0.1, 0.5], c=[0.55, 0.5, 0.3]), 2)
    assert found.kinds["disagreement"] == (1, 2)
    assert found.rule("disagreement") == "largest difference between two methods in S (alpha=0.5)"
    assert found.rule("worst") == "worst by S (alpha=0.5), mean of the methods"


def test_more_than_there_are():
    found = select(scored(a=[0.1, 0.2]), 6)
    assert set(found.kinds) == {"best", "median", "worst"}
    assert all(sorted(places) == [0, 1] for places in found.kinds.values())


def test_scores_of_images():
    np.testing.assert_array_equal(image_scores(scored(a=[0.1, 0.2], b=[0.3, 0.4]), "sm"), [[0.1, 0.2], [0.3, 0.4]])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = write_bench(tmp_path_factory.mktemp("sheet"), 4)
    for folder in ("data/masks", "good", "poor"):
        path = min((root / folder).iterdir())
        write_png(path, cv2.resize(cv2.imread(str(path), 0), (400, 150)))
    image = min((root / "data/images").iterdir())
    cv2.imwrite(str(image), cv2.resize(read_image(image), (400, 150)))
    data_sets = gather({"A": root / "data"}, {"good": root / "good", "poor": root / "poor"})
    return evaluate(data_sets, workers=1, resamples=0)[0][0]


def test_tiles_are_of_one_size(evaluated):
    found = tiles(evaluated, 0, 100)
    assert list(found) == ["image", "mask", "map good", "map poor"]
    assert {tile.shape[:2] for tile in found.values()} == {(38, 100)}
    assert tiles(evaluated, 1, 100)["mask"].shape == (64, 64)  # never enlarged


def test_shrink():
    assert shrink(np.zeros((300, 200, 3), np.uint8), 150).shape == (150, 100, 3)
    assert shrink(np.zeros((1, 4000), np.uint8), 100).shape == (1, 100)


def test_sheet_is_a_grid_with_scores_below(evaluated):
    sheet = draw_sheet(evaluated, [0, 2], "worst by S", "sm")
    grid = np.array(sheet.axes).reshape(2, 4)
    assert [axes.get_title() for axes in grid[0]] == ["image", "mask", "good", "poor"]
    assert grid[1, 0].get_xlabel() == evaluated.data_set.names[2]
    value = evaluated.scores["poor"].rows[2].measures["sm"]
    assert grid[1, 3].get_xlabel() == "S " + f"{value:.3f}"[1:]
    assert sheet.get_suptitle() == "A: worst by S"
    assert rendered(sheet, "pdf").startswith(b"%PDF")


def test_long_names_do_not_leave_the_sheet(tmp_path):
    root = write_bench(tmp_path, 2)
    for path in [*root.glob("data/*/*"), *root.glob("good/*")]:
        path.rename(path.with_name(f"a$name$_of_more_letters_than_two_tiles_hold_{path.name}"))
    data_sets = gather({"A": root / "data"}, {"a method of many words $x$": root / "good"})
    sheet = draw_sheet(evaluate(data_sets, workers=1, resamples=0)[0][0], [0, 1], "all", "sm")
    rendered(sheet, "pdf")
    edge = sheet.bbox
    texts = [text for axes in sheet.axes for text in (axes.xaxis.label, axes.title)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert all(box.x0 >= edge.x0 and box.x1 <= edge.x1 and box.y1 <= edge.y1 for box in boxes)
    assert sheet.axes[2].get_title() == "a method of many\nwords $x$"
    assert sheet.axes[0].get_xlabel().startswith("\N{HORIZONTAL ELLIPSIS}")
    assert sheet.axes[0].get_xlabel().endswith("_000000")
