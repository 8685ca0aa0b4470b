"""No output falls on an input, and an output folder has one run at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.paths import PathError, claim, refuse_overlaps, release


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"a")
    return folder


def test_places_apart_pass(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/w.safetensors").write_bytes(b"w")
    refuse_overlaps([photos, photos / "a.png", tmp_path / "out/w.safetensors"], [tmp_path / "out/maps"])
    refuse_overlaps([photos, tmp_path / "missing"], [tmp_path / "photos2/maps"])


def test_an_output_that_is_an_input(photos):
    with pytest.raises(PathError, match=r"a\.png: the output is the input .*photos/a\.png"):
        refuse_overlaps([photos / "a.png"], [photos / "../photos/a.png"])


def test_an_output_inside_an_input_folder(photos):
    with pytest.raises(PathError, match=r"photos/runs/maps: the output lies inside the input folder .*photos\."):
        refuse_overlaps([photos], [photos / "runs/maps"])


def test_an_input_inside_an_output_folder(photos):
    with pytest.raises(PathError, match=r"a\.png: the input lies inside the output folder .*photos\."):
        refuse_overlaps([photos / "a.png"], [photos])


def link_of_file(photos, out):
    out.mkdir()
    (out / "a.png").symlink_to(photos / "a.png")
    return [photos / "a.png"], [out / "a.png"]


def link_to_output(photos, out):
    out.mkdir()
    (out / "a.png").write_bytes(b"map")
    (photos / "b.png").symlink_to(out / "a.png")
    return [photos / "b.png"], [out]


def hard_link(photos, out):
    out.mkdir()
    (out / "a.png").hardlink_to(photos / "a.png")
    return [photos / "a.png"], [out / "a.png"]


def folder_linked_to_the_input(photos, out):
    out.symlink_to(photos)
    return [photos / "a.png"], [out]


def folder_below_a_link(photos, out):
    out.symlink_to(photos)
    return [photos], [out / "maps/new.png"]


def dangling_link(photos, out):
    out.symlink_to(photos / "b.png")
    return [photos], [out]


@pytest.mark.parametrize(
    "arrange",
    [link_of_file, link_to_output, hard_link, folder_linked_to_the_input, folder_below_a_link, dangling_link],
)
def test_links_are_followed_and_both_paths_named(photos, tmp_path, arrange):
    inputs, outputs = arrange(photos, tmp_path / "out")
    with pytest.raises(PathError) as caught:
        refuse_overlaps(inputs, outputs)
    assert str(inputs[0]) in str(caught.value) and str(outputs[0]) in str(caught.value)


def test_ten_thousand_files_take_little_time(tmp_path):
    """Each folder is resolved once, so that the check costs two look-ups a file."""
    names = [f"{i}.png" for i in range(10_000)]
    refuse_overlaps([tmp_path / "in" / name for name in names], [tmp_path / "out" / name for name in names])


def holder(folder: Path, then: str, root: Path) -> subprocess.Popen[str]:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom utils.paths import claim\n"
        f"lock = claim(Path({str(folder)!r}))\n{then}\nprint('held', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path, root):
    process = holder(tmp_path / "run", "", root)
    with pytest.raises(PathError, match=rf"run: another run \(process {process.pid} on .*another --out"):
        claim(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    claim(tmp_path / "run").close()


def test_worker_processes_that_outlive_the_run_do_not_hold_it(tmp_path, root):
    process = holder(tmp_path, "if os.fork() == 0:\n    time.sleep(3)\n    sys.exit()", root)
    process.send_signal(signal.SIGKILL)
    process.wait()
    claim(tmp_path).close()


def test_the_lock_of_a_file_lies_beside_it(tmp_path):
    claim(tmp_path / "cut.png", file=True).close()
    assert [path.name for path in tmp_path.iterdir()] == [".cut.png.lock"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PathError, match=r"file/run: cannot be written \(Not a directory\)\. Choose another --out"):
        claim(tmp_path / "file" / "run")


def test_a_released_lock_leaves_nothing(tmp_path):
    release(claim(tmp_path))
    release(None)
    assert not list(tmp_path.iterdir())
