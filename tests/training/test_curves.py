"""A run's log becomes curves, and they become a picture."""

import json

import cv2
import numpy as np
import pytest

from training.curves import draw, main, read_curves, smooth
from training.run_log import LogError, RunLog


@pytest.fixture
def run(tmp_path):
    log = RunLog(tmp_path / "run") if (tmp_path / "run").mkdir() is None else None
    for step in range(1, 101):
        log.scalars(step, {"loss/total": 3 / step, "loss/bce": 1 / step, "rate/rest": 0.1, "train/gradient_norm": 2.0})
        if step % 50 == 0:
            log.scalars(step, {"validation/wfm": step / 100, "validation/mae": 0.1})
    log.close()
    return tmp_path / "run"


def test_curves_are_what_was_logged(run):
    curves = read_curves(run)
    assert curves["loss/total"].shape == (100, 2) and curves["loss/total"][1].tolist() == [2, 1.5]
    assert curves["validation/wfm"].tolist() == [[50, 0.5], [100, 1.0]]


def test_a_log_that_goes_on_holds_every_step_once(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 101, "loss/to')  # killed in the middle of a line
    log = RunLog(run, step=60)
    log.scalars(61, {"loss/total": 9.0})
    log.close()
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 62)) and steps == sorted(steps)
    assert read_curves(run)["loss/total"][-1].tolist() == [61, 9.0]


def test_a_log_of_nothing_writes_nothing(tmp_path):
    log = RunLog(None)
    log.scalars(1, {"loss/total": 1.0})
    log.close()


def test_the_picture_is_written(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "curves.png")
    picture = cv2.imread(str(run / "curves.png"))
    assert picture.shape[1] == 1440 and (picture != 255).any()
    assert main([str(run), str(run), "--out", str(run / "two.png")]) == 0 and (run / "two.png").is_file()


def test_panels_without_numbers_are_left_out(run):
    figure = draw({"run": read_curves(run)})
    titles = [panel.get_title() for panel in figure.axes if panel.axison]
    assert "learning rate" in titles and "images/s" not in titles and len(titles) == 5


def test_smooth_is_a_mean_of_what_came_before():
    values = np.arange(100.0)
    expected = [values[max(0, end - 4) : end + 1].mean() for end in range(100)]
    np.testing.assert_allclose(smooth(values), expected)
    assert smooth(np.array([3.0])).tolist() == [3.0]


def test_no_log_is_one_line(tmp_path):
    with pytest.raises(LogError, match=r"log.jsonl: no such log. Give the folder that train.py wrote"):
        read_curves(tmp_path)
