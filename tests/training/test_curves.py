"""A run's log becomes curves, and the curves an image."""

import json

import cv2
import numpy as np
import pytest

from training.curves import draw, main, read_curves, smooth
from training.run_log import LogError, RunLog


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    log = RunLog(tmp_path / "run")
    log.open()
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


def test_a_log_that_resumes_holds_every_step_once(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 101, "loss/to')  # killed in the middle of a line
    log = RunLog(run)
    log.open(step=60)
    log.scalars(61, {"loss/total": 9.0})
    log.close()
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 62)) and steps == sorted(steps)
    assert read_curves(run)["loss/total"][-1].tolist() == [61, 9.0]


def test_a_log_of_nothing_writes_nothing(tmp_path):
    log = RunLog(None)
    log.open()
    log.scalars(1, {"loss/total": 1.0})
    log.close()


def test_the_image_is_written(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "curves.png")
    image = cv2.imread(str(run / "curves.png"))
    assert image.shape[1] == 1440 and (image != 255).any()
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


def test_a_log_that_resumes_drops_what_came_after_its_checkpoint(run):
    """A validation has the step of the training entry before it: steps alone can't tell which came after a save."""
    log = RunLog(run)
    log.load_state_dict({"entries": 51})  # saved between step 51 and the next one; 50 was validated
    log.open(step=51)
    assert log.state_dict() == {"entries": 51}
    log.scalars(51, {"validation/wfm": 0.5})
    assert log.state_dict() == {"entries": 52}
    log.close()
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(entries) == 52 and entries[-1]["validation/wfm"] == 0.5


def test_infinite_values_are_gaps_and_valid_json(tmp_path):
    log = RunLog(tmp_path)
    log.open()
    for step in range(1, 101):
        log.scalars(step, {"loss/total": float("inf") if step == 40 else 2.0, "train/gradient_norm": float("nan")})
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert "Infinity" not in text and "NaN" not in text
    curve = read_curves(tmp_path)["loss/total"]
    assert np.isnan(curve[39, 1]) and np.isfinite(np.delete(curve[:, 1], 39)).all()
    assert (smooth(curve[:, 1]) == 2).all(), "the rest of the curve is drawn"
    assert np.isnan(smooth(read_curves(tmp_path)["train/gradient_norm"][:, 1])).all()


@pytest.mark.parametrize("line", ["[]", "3", '{"loss/total": 1}', '{"step": "one"}', '{"step": 1, "a": "b"}', "\x00"])
def test_lines_that_are_no_entries_are_dropped(run, line):
    with (run / "log.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert read_curves(run)["loss/total"].shape == (100, 2)


def test_a_log_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "time": 1.0, "train/gradient_norm": Infinity}\n')
    assert np.isnan(read_curves(tmp_path)["train/gradient_norm"]).tolist() == [[False, True]]
