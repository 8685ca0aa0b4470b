"""test.py from end to end: what it writes, and what it refuses."""

import json
import shutil
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data.image_io import read_image, write_png
from inference.engines import machine
from inference.predictor import Predictor
from inference.settings import SAMPLES
from tests.conftest import make_image
from tests.programs import ROOT, Done, Together
from utils.errors import UserError


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "bench"
    for i in range(4):
        make_image(folder / f"images/{i}.jpg", 40 + i, 60)
        mask = np.zeros((40 + i, 60), np.uint8)
        mask[5:30, 10:40] = 255
        write_png(folder / f"masks/{i}.png", mask)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_samples_by_default(run, capsys, script):
    assert run() == 0
    names = {path.stem for path in SAMPLES.glob("*.jpg")}
    assert len(names) >= 3
    drawn = {f"{kind}/{name}.png" for kind in ("maps", "overlay") for name in names}
    assert files(run.out) == drawn | {"results.json", "sheet.png", "manifest.jsonl"}
    printed = capsys.readouterr().out.splitlines()
    assert "cpu" in printed[1] and "fp32" in printed[1] and "threads" in printed[1]
    assert printed[-1].startswith(f"{len(names)} of {len(names)} images in")
    assert "images/s" in printed[-1] and printed[-1].endswith(f"{run.out}/")


def test_folder_is_mirrored_and_maps_are_exact(run, photos, tiny_weights):
    """The map's file is round(255 * map), at the image's own size, never stretched."""
    assert run("--images", photos) == 0
    assert files(run.out) == {"maps/a.png", "maps/deep/er/b.png", "maps/deep/c.png", "results.json", "manifest.jsonl"}
    predictor = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")
    for place in ("a.jpg", "deep/er/b.png", "deep/c.webp"):
        written = Image.open((run.out / "maps" / place).with_suffix(".png"))
        expected = np.rint(255 * predictor(photos / place))
        assert written.mode == "L"
        # A value just at a half may fall to either side: batches are computed in another order than single images.
        difference = np.abs(np.asarray(written) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.01


def test_one_image(run, photos):
    assert run("--images", photos / "a.jpg", "--cutout", "--overlay", "--sheet") == 0
    assert files(run.out) == {
        "maps/a.png",
        "overlay/a.png",
        "cutout/a.png",
        "results.json",
        "sheet.png",
        "manifest.jsonl",
    }
    cutout = np.asarray(Image.open(run.out / "cutout/a.png"))
    assert cutout.shape == (40, 50, 4)
    assert (cutout[..., 3] == np.asarray(Image.open(run.out / "maps/a.png"))).all()


def test_no_overlay_and_no_sheet_of_the_samples(run):
    assert run("--no-overlay", "--no-sheet") == 0
    assert {place.split("/")[0] for place in files(run.out)} == {"maps", "results.json", "manifest.jsonl"}


def test_turned_and_odd_images(run, tmp_path):
    """EXIF orientation, palette, alpha, grey and CMYK images of any size, one pixel included."""
    folder = tmp_path / "odd"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(folder / "turned.jpg", exif=exif)
    for mode in ("P", "LA", "L", "1", "RGBA"):
        Image.new(mode, (7, 9)).save(folder / f"{mode}.png")
    Image.new("CMYK", (300, 5)).save(folder / "cmyk.tif")
    Image.new("RGB", (1, 1)).save(folder / "dot.bmp")
    assert run("--images", folder, "--overlay", "--cutout", "--batch", "3") == 0
    assert Image.open(run.out / "maps/turned.png").size == (20, 30)
    for path in folder.iterdir():
        height, width = read_image(path).shape[:2]
        assert Image.open(run.out / "maps" / f"{path.stem}.png").size == (width, height)


def test_benchmark_is_scored(run, benchmark, capsys):
    assert run("--data", f"ECSSD={benchmark}", f"mine={benchmark}", "--sheet") == 0
    maps = {f"maps/{name}/{i}.png" for name in ("ECSSD", "mine") for i in range(4)}
    sheets = {
        f"{kind}_{name}.{end}" for name in ("ECSSD", "mine") for kind, end in (("scores", "csv"), ("sheet", "png"))
    }
    assert files(run.out) == maps | sheets | {"results.json", "scores.md", "manifest.jsonl"}
    printed = capsys.readouterr().out
    assert "Auto-MSFNet, ResNet-50 (Table 1)   .033" in printed
    assert "Auto-MSFNet, ResNet-50 (Table 1) | .033" in (run.out / "scores.md").read_text()
    lines = (run.out / "scores_ECSSD.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["name", "0", "1", "2", "3"]
    sets = results(run.out)["sets"]
    assert sets[0]["scores"] == sets[1]["scores"]
    saliency = np.asarray(Image.open(run.out / "maps/mine/0.png")).astype(float)
    assert saliency.std() > 0 and 0 < sets[0]["scores"]["mae"] < 1


def test_results_hold_what_they_depend_on(run, photos, tiny_weights):
    assert run("--images", photos, "--size", "96", "--batch", "2") == 0
    record = results(run.out)
    assert record["size"] == 96 and record["batch"] == 2 and record["precision"] == "fp32"
    assert len(record["weights"]["sha256"]) == 64 and record["weights"]["encoder"] == "test_efficientnet"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["sets"][0]["images"] == 3 and record["sets"][0]["failed"] == {}


def test_bad_images_are_reported_and_the_others_done(run, photos, capsys):
    good = (photos / "a.jpg").read_bytes()
    (photos / "zero.jpg").touch()
    (photos / "cut.jpg").write_bytes(good[: len(good) // 2])
    (photos / "text.png").write_text("no image")
    assert run("--images", photos, "--sheet") == 1
    assert {f"maps/{name}.png" for name in ("a", "deep/er/b", "deep/c")} < files(run.out)
    output = capsys.readouterr()
    errors = output.err.splitlines()
    assert sorted(line.split("/")[-1].split(":")[0] for line in errors) == ["cut.jpg", "text.png", "zero.jpg"]
    assert all(line.startswith("error: ") for line in errors)
    assert output.out.splitlines()[-1].startswith("3 of 6 images")
    assert len(results(run.out)["sets"][0]["failed"]) == 3


def test_only_bad_images(run, tmp_path):
    (tmp_path / "zero.jpg").touch()
    assert run("--images", tmp_path / "zero.jpg", "--sheet") == 1
    assert files(run.out) == {"results.json", "manifest.jsonl"}


def test_scores_with_a_bad_image_say_so(run, benchmark, capsys):
    (benchmark / "images/2.jpg").write_bytes(b"")
    assert run("--data", f"mine={benchmark}") == 1
    assert "mine: the scores are of 3 of 4 images" in capsys.readouterr().err
    assert results(run.out)["sets"][0]["scores"] is not None


def test_mask_of_another_size(run, benchmark, capsys, tmp_path):
    other = shutil.copytree(benchmark, tmp_path / "other")
    write_png(benchmark / "masks/1.png", np.full((10, 20), 255, np.uint8))
    assert run("--data", f"bad={benchmark}", f"good={other}") == 1
    error = capsys.readouterr().err
    assert "bad: not scored" in error and "60 x 41" in error and "20 x 10" in error
    sets = results(run.out)["sets"]
    assert sets[0]["scores"] is None and sets[1]["scores"] is not None
    assert len(files(run.out / "maps/bad")) == 4


def test_two_images_of_one_stem_keep_their_suffix(run, photos, capsys):
    make_image(photos / "a.png")
    assert run("--images", photos) == 0
    assert {"maps/a.jpg.png", "maps/a.png.png", "maps/deep/c.png"} < files(run.out)
    assert "a.jpg and a.png" in capsys.readouterr().out
    shutil.copy(photos / "a.png", photos / "a.jpg.webp")
    with pytest.raises(UserError, match=r"both would be written as a\.jpg\.png"):
        run("--images", photos)


@pytest.mark.parametrize("below", ["", "runs", "deep/maps"])
def test_output_among_the_inputs(run, photos, below):
    before = files(photos)
    with pytest.raises(UserError, match=r"lies inside the input folder"):
        run("--images", photos, out=photos / below)
    assert files(photos) == before


def test_output_among_the_inputs_by_a_link(run, photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UserError, match="lies inside the input folder"):
        run("--images", photos, out=tmp_path / "link")


def test_inputs_among_the_outputs(run, photos):
    run("--images", photos)
    for path in (run.out / "maps", run.out / "maps/a.png", run.out / "maps/deep"):
        with pytest.raises(UserError, match="the output folder|the output is the input"):
            run("--images", path)


def test_output_that_is_a_file(run, photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: cannot be written \(File exists|Not a directory"):
        run("--images", photos, out=tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "{tmp}/nothing"], "nothing: no such file or folder"),
        (["--images", "{tmp}/empty"], "holds no image"),
        (["--data", "X={tmp}/empty"], "no images with masks found"),
        (["--data", "X"], "give NAME=DIR"),
        (["--data", "X={tmp}/nothing"], "there is no folder"),
        (["--weights", "lita"], "weights 'lita': neither a shipped model"),
        (["--weights", "{tmp}/broken.pth"], r"broken\.pth: truncated or no checkpoint"),
        (["--precision", "fp16"], "--precision fp16: CPUs compute it slowly"),
    ],
)
def test_requests_that_cannot_be_met(run, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match=message) as caught:
        run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(run):
    with pytest.raises(UserError, match="finds no cuda device"):
        run("--device", "cuda")


def test_the_program_exits_with_one_line(root, tmp_path):
    command = [sys.executable, root / "test.py", "--images", tmp_path / "none", "--out", tmp_path / "out"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"error: {tmp_path}/none: no such file or folder. Check the path: {tmp_path} has no none."
    ]


def test_memory_does_not_grow_with_the_images(tiny_weights, tmp_path):
    """Peak memory (VmHWM, the process's own) of a run over 70 images of 1.5 MB stays near that of one over 20."""
    make_image(tmp_path / "one.jpg", 700, 700)
    (tmp_path / "measured.py").write_text(
        f"import runpy, sys\n"
        f"try: runpy.run_path({str(ROOT / 'test.py')!r}, run_name='__main__')\n"
        f"except SystemExit as end: assert end.code == 0\n"
        f"print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks = [peak_of_a_run(tiny_weights, tmp_path, count) for count in (20, 70)]
    assert peaks[0] > 100 and peaks[1] - peaks[0] < 40


def peak_of_a_run(tiny_weights, tmp_path, count):
    """Megabytes."""
    folder = tmp_path / str(count)
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.jpg").hardlink_to(tmp_path / "one.jpg")
    done = Done(
        tmp_path / "measured.py", "--weights", tiny_weights, "--device", "cpu", "--engine", "torch", "--out",
        tmp_path / "out", "--overlay", "--batch", 2, "--images", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


def test_video(run, tmp_path, capsys):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    assert run("--video", path) == 0
    assert files(run.out) == {"film_overlay.mp4", "results.json"}
    assert results(run.out)["video"]["found"] == 12
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("12 frames in") and last.endswith("film_overlay.mp4")
    assert run("--video", path, "--smooth") == 0
    assert results(run.out)["video"]["smooth"] is True
    for words, told in (
        (["--video", path, "--sheet"], "--sheet: a video has none"),
        (["--video", path, "--type", "white"], "--type: cutouts of a video have alpha"),
        (["--video", path, "--crop"], "--crop: cutouts of a video have alpha"),
        (["--video", path, "--no-despill"], "--despill: cutouts of a video have alpha"),
        (["--images", path, "--smooth"], "--smooth: only the maps of a --video"),
    ):
        with pytest.raises(UserError, match=told):
            run(*words)
    with pytest.raises(UserError, match="no such video file"):
        run("--video", tmp_path / "none.mp4")


def test_tar_shards_are_read_and_written(run, photos, tmp_path, capsys):
    for number, names in enumerate((["a.jpg"], ["deep/er/b.png", "deep/c.webp"])):
        with tarfile.open(tmp_path / f"s-{number}.tar", "w") as tar:
            for name in names:
                tar.add(photos / name, name)
    pattern = tmp_path / "s-{0..1}.tar"
    for refused in (["--sheet"], ["--precision", "int8"]):
        with pytest.raises(UserError, match=f"{refused[0]}.*tar shards"):
            run("--images", pattern, *refused)
    assert not run.out.exists()
    assert run("--images", pattern, "--cutout") == 0
    assert "2 of 2 shards, 3 images in" in capsys.readouterr().out
    with tarfile.open(run.out / "cutout/s-1.tar") as tar:
        assert tar.getnames() == ["deep/er/b.png", "deep/c.png"]
    assert results(run.out)["sets"][0]["members"] == 3
    assert run("--images", pattern, "--cutout", "--resume") == 0
    assert "2 of 2 shards, 0 images in" in capsys.readouterr().out


def test_tar_shards_need_no_images_for_int8_where_a_calibrated_file_ships(run, photos, tmp_path, capsys):
    pytest.importorskip("openvino", reason="needs openvino (requirements-deploy.txt)")
    if machine.saturates():
        pytest.skip("this processor needs weights of 7 bits, which do not ship")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(photos / "a.jpg", "a.jpg")
    words = ("--images", tmp_path / "s.tar", "--weights", "lite", "--engine", "openvino", "--precision", "int8")
    with pytest.raises(UserError, match="--precision int8: tar shards cannot be calibrated on"):
        run(*words, "--size", 64)
    assert run(*words, "--size", 256) == 0
    assert "1 of 1 shards, 1 images in" in capsys.readouterr().out


def test_calibration_is_of_int8(run, photos):
    with pytest.raises(UserError, match="--calibration: only --precision int8 is calibrated"):
        run("--images", photos, "--calibration", photos)


def test_a_folder_shared_out_over_processes(benchmark, tiny_weights, tmp_path, run):
    """Two processes, as torchrun starts them, write the maps and the scores of one."""
    assert run("--data", f"mine={benchmark}") == 0
    running = Together(
        "test.py", "--weights", tiny_weights, "--device", "cpu", "--engine", "torch", "--precision", "fp32",
        "--data", f"mine={benchmark}", "--out", tmp_path / "shared", cwd=tmp_path,
    )  # fmt: skip
    text, _ = running.communicate()
    assert running.returncode == 0, text
    assert "2 processes" in text and text.count("images/s") == 1
    assert files(tmp_path / "shared") == files(run.out)
    ours, theirs = results(run.out)["sets"][0], results(tmp_path / "shared")["sets"][0]
    assert theirs["images"] == 4 and theirs["scores"] == pytest.approx(ours["scores"], abs=1e-3)


def test_int8_needs_an_engine_that_has_it(run, photos):
    with pytest.raises(UserError, match="--precision int8: not supported by PyTorch's engine. Use --engine openvino"):
        run("--images", photos, "--precision", "int8")


def test_the_engine_is_printed(run, photos, capsys):
    assert run("--images", photos) == 0
    assert "\nengine torch, fp32: named by the user" in capsys.readouterr().out
    assert results(run.out)["engine"] == "torch"
