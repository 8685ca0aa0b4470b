"""Scores of folders: equal to the library in one process, whatever the number of workers; strict on bad input."""

import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import py_sod_metrics as sod
import pytest

from data.image_io import write_png
from data.masks import read_mask
from evaluation.map_files import MapError, ScorePair, read_map
from evaluation.metrics import score_pair
from evaluation.scoring import score_maps
from tests.scored import bench_pairs, write_bench


@pytest.fixture(scope="module")
def scores(bench):
    return score_maps(bench_pairs(bench), workers=1)


@pytest.mark.filterwarnings("ignore")
def test_equal_to_the_library_in_one_process(bench, scores):
    parts = [sod.MAE(), sod.Smeasure(), sod.WeightedFmeasure(), sod.Emeasure(), sod.Fmeasure()]
    parts.append(sod.MSIoU(with_dynamic=False, with_adaptive=True))
    for pair in bench_pairs(bench):
        for part in parts:
            part.step(cv2.imread(str(pair.map_path), 0), cv2.imread(str(pair.mask_path), 0))
    found = {key: value for part in parts for key, value in part.get_results().items()}
    f, e = found["fm"]["curve"], found["em"]["curve"]
    expected = {"mae": found["mae"], "sm": found["sm"], "wfm": found["wfm"], "msiou": found["adaptive"]}
    expected |= {"adpf": found["fm"]["adp"], "meanf": f.mean(), "maxf": f.max()}
    expected |= {"adpe": found["em"]["adp"], "meane": e.mean(), "maxe": e.max()}
    assert scores.measures == pytest.approx(expected, rel=0, abs=1e-9)
    np.testing.assert_allclose(scores.curves.precision, found["pr"]["p"][::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.curves.recall, found["pr"]["r"][::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.curves.f, f[::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.curves.e, e[::-1], rtol=0, atol=1e-9)


def test_two_workers_give_the_same_bits(bench, scores):
    parallel = score_maps(bench_pairs(bench) * 3, workers=2)
    serial = score_maps(bench_pairs(bench) * 3, workers=1)
    assert parallel.measures == serial.measures
    assert parallel.rows == serial.rows
    np.testing.assert_array_equal(parallel.image_f, serial.image_f)
    np.testing.assert_array_equal(parallel.curves.e, serial.curves.e)
    assert parallel.rows[: len(scores.rows)] == scores.rows


def test_workers_do_not_import_the_calling_script(bench, tmp_path, root):
    script = tmp_path / "caller.py"
    script.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "open(sys.argv[3], 'a').write('imported ')\n"  # no `if __name__ == '__main__'`
        "from tests.scored import bench_pairs\nfrom evaluation.scoring import score_maps\n"
        "print(len(score_maps(bench_pairs(Path(sys.argv[2])) * 2, workers=2).rows))\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, script, root, bench, log], capture_output=True, text=True, check=True, timeout=900
    )
    assert done.stdout.strip() == "16"
    assert log.read_text() == "imported "


def test_rows_and_curves_belong_together(bench, scores):
    pair = bench_pairs(bench)[3]
    row, curves = score_pair(read_map(pair.map_path), read_mask(pair.mask_path), pair.name)
    assert scores.rows[3] == row
    np.testing.assert_allclose(scores.image_f[3], curves[2], rtol=1e-6)
    np.testing.assert_allclose(scores.image_e[3], curves[3], rtol=1e-6)
    assert row.measures["maxf"] == curves[2].max()


def test_max_of_the_averaged_curve_is_not_the_mean_of_maxima(scores):
    assert scores.measures["maxf"] == pytest.approx(scores.image_f.mean(axis=0).max(), rel=1e-6)
    assert scores.measures["maxf"] < np.mean([row.measures["maxf"] for row in scores.rows])


def test_all_that_cannot_be_scored_is_listed(tmp_path):
    root = write_bench(tmp_path, 6)
    pairs = bench_pairs(root)
    pairs[1].map_path.write_bytes(b"no image")
    write_png(pairs[2].map_path, np.zeros((64, 63), np.uint8))
    write_png(pairs[4].mask_path, np.tile(np.arange(1, 65, dtype=np.uint8), (64, 1)))
    with pytest.raises(MapError) as told:
        score_maps(pairs, workers=1)
    lines = str(told.value).splitlines()
    assert lines[0].startswith(str(root / "good"))
    assert "3 of 6 maps cannot be scored" in lines[0]
    assert f"{pairs[1].map_path}: cannot be read as a map" in lines[1]
    assert f"{pairs[2].name}: the map has 63 x 64 pixels, the mask 64 x 64. Write maps at the size" in lines[2]
    assert f"{pairs[4].mask_path}: ambiguous masks" in lines[3]


def test_resizing_is_opencvs_bilinear(tmp_path):
    root = write_bench(tmp_path, 2)
    pair = bench_pairs(root)[0]
    small = cv2.resize(read_map(pair.map_path), (20, 32))
    write_png(pair.map_path, small)
    found = score_maps([pair], workers=1, resize=True).rows[0]
    expected = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert found == score_pair(expected, read_mask(pair.mask_path), pair.name).row


def test_floats_saved_as_bytes_are_refused(tmp_path):
    root = write_bench(tmp_path, 3)
    for pair in bench_pairs(root):
        write_png(pair.map_path, read_map(pair.map_path) // 255)
    with pytest.raises(MapError, match=r"no map has a value above 1 of 255.*Save round\(255 \* map\) in 8 bits"):
        score_maps(bench_pairs(root), workers=1)


def test_one_nearly_black_map_among_others_is_scored(tmp_path):
    root = write_bench(tmp_path, 3)
    pair = bench_pairs(root)[0]
    write_png(pair.map_path, (read_map(pair.map_path) > 200).astype(np.uint8))
    assert score_maps(bench_pairs(root), workers=1).rows[0].peak == 1


def test_memory_does_not_grow_with_the_pictures(bench):
    def peak(repeats):
        pairs = bench_pairs(bench) * repeats
        tracemalloc.start()
        score_maps(pairs, workers=1)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(1)
    few, many = peak(1), peak(4)
    # 24 maps more: their rows and two curves each, not their images (64 x 64 bytes, and eight times that as floats).
    assert (many - few) / 24 < 6_000


def test_nothing_to_score():
    with pytest.raises(MapError, match="nothing to score"):
        score_maps([])


def test_16_bit_and_float_maps_score_as_their_bytes(tmp_path, bench):
    pair = bench_pairs(bench)[0]
    saliency = read_map(pair.map_path)
    np.save(tmp_path / "a.npy", saliency / 255)
    np.save(tmp_path / "b.npy", saliency.astype(np.uint16) * 257)
    rows = score_maps([ScorePair("x", tmp_path / f"{name}.npy", pair.mask_path) for name in "ab"], workers=1).rows
    assert rows[0].measures == rows[1].measures == score_maps([pair], workers=1).rows[0].measures


def test_maps_as_other_files_in_the_same_places(tmp_path):
    root = write_bench(tmp_path, 2)
    expected = score_maps(bench_pairs(root), workers=1).measures
    for pair in bench_pairs(root):
        cv2.imwrite(str(pair.map_path.with_suffix(".bmp")), read_map(pair.map_path))
        pair.map_path.unlink()
    assert score_maps(bench_pairs(root), workers=1).measures == expected
