"""evaluate.py from end to end: what it writes, and what it refuses."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

import evaluate
from data.image_io import write_png
from evaluation.map_files import read_map
from settings.parser import FORMER_IMAGES
from utils.errors import exit_on_user_error

QUICK = ["--resamples", "100", "--images", "1", "--workers", "1"]


@pytest.fixture(scope="module")
def out(bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    maps = [f"good={bench / 'good'}", f"poor={bench / 'poor'}"]
    assert evaluate.main(["--data", f"ECSSD-8={bench / 'data'}", "--maps", *maps, "--out", str(out), *QUICK]) == 0
    return out


def test_everything_is_written(out):
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    kinds = ("best", "median", "worst", "disagreement")
    assert written == {
        ".lock",
        "index.html",
        *(f"tables.{kind}" for kind in ("md", "tex", "csv")),
        "comparisons.csv",
        *(f"scores/ECSSD-8/{method}.{kind}" for method in ("good", "poor") for kind in ("csv", "json")),
        *(f"curves/ECSSD-8.{kind}" for kind in ("pdf", "svg")),
        *(f"sheets/ECSSD-8-{kind}.pdf" for kind in kinds),
    }


def test_files_agree(out):
    per_map = list(csv.DictReader((out / "scores/ECSSD-8/good.csv").open()))
    scores = json.loads((out / "scores/ECSSD-8/good.json").read_text())
    table = next(csv.DictReader((out / "tables.csv").open()))
    assert len(per_map) == scores["count"] == int(table["maps"]) == 8
    assert np.mean([float(row["mae"]) for row in per_map]) == pytest.approx(scores["measures"]["mae"])
    assert scores["images"][per_map[3]["name"]]["sm"] == float(per_map[3]["sm"])
    assert float(table["maxf"]) == scores["measures"]["maxf"] == pytest.approx(max(scores["curves"]["f"]))
    assert float(table["maxf_low"]) <= float(table["maxf"]) <= float(table["maxf_high"])
    assert "Auto-MSFNet, ResNet-50 (Table 1)" in (out / "tables.md").read_text()
    assert "Holm" in (out / "tables.md").read_text()


def test_the_same_call_writes_the_same_bytes(out, bench, tmp_path):
    maps = [f"good={bench / 'good'}", f"poor={bench / 'poor'}"]
    evaluate.main(["--data", f"ECSSD-8={bench / 'data'}", "--maps", *maps, "--out", str(tmp_path), *QUICK])
    for path in out.rglob("*"):
        if path.is_file() and path.name != ".lock":
            assert path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes(), path


def test_one_method_alone(bench, tmp_path, capsys):
    arguments = ["--data", f"mine={bench / 'data'}", "--maps", f"good={bench / 'good'}", "--out", str(tmp_path)]
    assert evaluate.main([*arguments, "--resamples", "0", "--images", "0", "--workers", "1"]) == 0
    assert not (tmp_path / "comparisons.csv").exists()
    assert not (tmp_path / "sheets").exists()
    assert (tmp_path / "index.html").exists()
    assert "mine (8 maps)" in capsys.readouterr().out


@pytest.fixture
def refused(bench, tmp_path, capsys):
    """Runs on copies of the good maps that `spoil` has changed; gives what was told."""

    def run(spoil, *more):
        shutil.copytree(bench / "good", tmp_path / "maps")
        spoil(sorted((tmp_path / "maps").iterdir()))
        arguments = [
            "--data",
            f"A={bench / 'data'}",
            "--maps",
            f"m={tmp_path / 'maps'}",
            "--out",
            str(tmp_path / "out"),
        ]
        assert exit_on_user_error(lambda: evaluate.main([*arguments, *QUICK, *more])) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return run


def resized(path):
    write_png(path, cv2.resize(read_map(path), (30, 40)))


def test_missing(refused):
    assert "7 maps for 8 masks; 1 missing map" in refused(lambda maps: maps[2].unlink())


def test_extra(refused):
    assert "1 extra map: stray" in refused(lambda maps: shutil.copy(maps[0], maps[0].with_name("stray.png")))


def test_doubled(refused):
    assert "1 doubled map" in refused(lambda maps: shutil.copy(maps[0], maps[0].with_suffix(".tif")))


def test_another_size(refused):
    told = refused(lambda maps: [resized(path) for path in maps[:2]])
    assert "2 of 8 maps have another size than their mask: 000000 (30 x 40, its mask 64 x 64)" in told
    assert "--resize-maps" in told


def test_another_size_with_the_switch(bench, tmp_path):
    shutil.copytree(bench / "good", tmp_path / "maps")
    resized(min((tmp_path / "maps").iterdir()))
    arguments = ["--data", f"A={bench / 'data'}", "--maps", f"m={tmp_path / 'maps'}", "--out", str(tmp_path / "out")]
    assert evaluate.main([*arguments, *QUICK, "--resize-maps"]) == 0


def test_unreadable(refused):
    assert "cannot be read as a map" in refused(lambda maps: maps[0].write_bytes(maps[0].read_bytes()[:50]))


def test_colours(refused):
    told = refused(lambda maps: write_png(maps[0], np.dstack([read_map(maps[0])] * 2 + [255 - read_map(maps[0])])))
    assert "a map in colours" in told


def test_no_maps(refused):
    assert "it is empty" in refused(lambda maps: [path.unlink() for path in maps])


def test_unscaled_floats(refused):
    assert "floats in 0..1 are saved as bytes" in refused(lambda maps: [write_png(m, read_map(m) // 255) for m in maps])


def test_raw_floats(refused):
    def spoil(maps):
        np.save(maps[0].with_suffix(".npy"), read_map(maps[0]) / 50)
        maps[0].unlink()

    assert "not in 0 to 1. Apply the sigmoid, or divide by 255, first" in refused(spoil)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "A=.", "--maps", "m=/none"], "there is no folder /none"),
        (["--data", "A", "--maps", "m=."], "give NAME=DIR"),
    ],
)
def test_bad_names(arguments, told, capsys):
    assert exit_on_user_error(lambda: evaluate.main(arguments)) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--workers=0", "--resamples=-1", "--images=some"])
def test_bad_numbers(option, capsys):
    with pytest.raises(SystemExit) as left:
        evaluate.main(["--data", "A=.", "--maps", "m=.", option])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option.partition('=')[0]}: ") and error.count("\n") == 1


def test_as_a_program(root, bench, tmp_path):
    arguments = ["--data", f"A={bench / 'data'}", "--maps", f"m={bench / 'data'}", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "evaluate.py", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_rank_by_another_measure(bench, tmp_path):
    arguments = ["--data", f"A={bench / 'data'}", "--maps", f"m={bench / 'good'}", "--out", str(tmp_path)]
    assert evaluate.main([*arguments, *QUICK, "--rank-by", "mae"]) == 0
    assert "worst images by MAE" in (tmp_path / "index.html").read_text()


def test_earlier_spellings_still_work(bench, tmp_path, capsys):
    arguments = ["--data", f"A={bench / 'data'}", "--maps", f"m={bench / 'good'}", "--out", str(tmp_path)]
    former = ["--rank_by", "mae", f"--{FORMER_IMAGES}", "0"]
    assert evaluate.main([*arguments, *former, "--resamples", "0", "--workers", "1"]) == 0
    assert "notice: --rank_by is now written --rank-by" in capsys.readouterr().err


def test_help_and_scoring_import_no_torch(root, bench, tmp_path):
    code = (
        "import runpy, sys; sys.argv = ['evaluate.py', *sys.argv[1:]]\n"
        "try: runpy.run_path('evaluate.py', run_name='__main__')\n"
        "except SystemExit as left: print(left.code, *[m for m in ('torch', 'matplotlib', 'cv2') if m in sys.modules])"
    )

    def imported(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[-1]

    scored = ["--data", f"A={bench / 'data'}", "--maps", f"m={bench / 'good'}", "--out", str(tmp_path), *QUICK]
    assert imported("--help") == "0"
    assert imported(*scored) == "0 matplotlib cv2"
