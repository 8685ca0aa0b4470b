"""Tar shards: every image once, in order and as from a file; damage stops its shard only; whole shards are kept."""

import errno
import io
import tarfile

import cv2
import numpy as np
import pytest
import torch

from data.image_io import read_image
from inference import shards
from inference.manifest import Manifest
from inference.map_writer import MapWriter
from inference.predictor import Predictor
from inference.shards import ShardError, shard_set, write_shards
from inference.tasks import Outputs, folder_set


class Brightness:
    """An engine whose map is the brightness of its image, whatever else is in the batch."""

    name, precision, reason, device = "brightness", "fp32", "", torch.device("cpu")
    size, batch, streams = 32, 4, 2

    def __call__(self, images):
        return 4 * images.mean(1, keepdim=True)


def images_in(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 255, (4 + seed % 3, 5, 3), np.uint8)
        image = cv2.resize(noise, (40, 30 + seed), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / name), image)
    return folder


def pack(path, folder, names, extra=()):
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.add(folder / name, f"deep/{name}")
        for name, content in extra:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def content(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.fixture
def names():
    return [f"{number:04d}.png" for number in range(10)]


def write(pattern, out, kinds=("maps",), resume=False):
    found = shard_set(pattern)
    outputs = Outputs.of(out, kinds[1:], [found], None)
    out.mkdir(exist_ok=True)
    manifest = Manifest(out, {"weights": "x"})
    kept = manifest.kept(found.tasks, outputs) if resume else set()
    manifest.begin(found.tasks, kept)
    writer = MapWriter(Predictor(Brightness()), outputs, batch=4)
    return kept, write_shards(writer, found.tasks, kept)


def test_outputs_are_those_of_files_in_the_order_of_the_shard(tmp_path, names):
    folder = images_in(tmp_path / "in", names)
    pack(tmp_path / "s-0.tar", folder, names[:7], [("deep/0000.json", b"{}"), ("readme.txt", b"hello")])
    pack(tmp_path / "s-1.tar", folder, names[7:])
    _, written = write(tmp_path / "s-{0..1}.tar", tmp_path / "out")
    assert (written.images, written.failures, len(written.done)) == (10, (), 2)
    files = Outputs(tmp_path / "files")
    MapWriter(Predictor(Brightness()), files).write(folder_set(folder).tasks)
    maps = {**content(tmp_path / "out/maps/s-0.tar"), **content(tmp_path / "out/maps/s-1.tar")}
    assert list(maps) == [f"deep/{name}" for name in names]
    for task in folder_set(folder).tasks:
        decoded = cv2.imdecode(np.frombuffer(maps[f"deep/{task.name}.png"], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(decoded, cv2.imread(str(files.path(task, "maps")), cv2.IMREAD_GRAYSCALE))
        assert decoded.shape == read_image(task.image).shape[:2]


def test_a_whole_shard_is_kept_and_a_changed_one_made_again(tmp_path, names):
    folder = images_in(tmp_path / "in", names)
    for number in range(3):
        pack(tmp_path / f"s-{number}.tar", folder, names[3 * number : 3 * number + 3])
    pattern, out = tmp_path / "s-{0..2}.tar", tmp_path / "out"
    write(pattern, out)
    first = {path.name: path.read_bytes() for path in (out / "maps").iterdir()}
    (out / "maps/s-0.tar").unlink()
    pack(tmp_path / "s-2.tar", folder, names[5:])
    kept, written = write(pattern, out, resume=True)
    assert kept == {"s-1"} and written.images == 8
    assert (out / "maps/s-0.tar").read_bytes() == first["s-0.tar"]  # the same bytes, whatever run made them
    assert list(content(out / "maps/s-2.tar")) == [f"deep/{name}" for name in names[5:]]


def test_an_image_that_cannot_be_read_leaves_the_rest_and_is_tried_again(tmp_path, names):
    folder = images_in(tmp_path / "in", names)
    pack(tmp_path / "s.tar", folder, names[:3], [("deep/broken.jpg", b"no image"), ("deep/last.json", b"{}")])
    _, written = write(tmp_path / "s.tar", tmp_path / "out")
    (failure,) = written.failures
    assert failure.item.name == "s/deep/broken" and "s.tar/deep/broken.jpg: no image (8 bytes" in failure.reason
    assert list(content(tmp_path / "out/maps/s.tar")) == [f"deep/{name}" for name in names[:3]]
    assert write(tmp_path / "s.tar", tmp_path / "out", resume=True)[0] == set()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "not read to its end"),
        (lambda data: b"no archive" + data[10:], "not read to its end"),
        (lambda data: b"", "not read to its end|holds no image"),
    ],
)
def test_a_damaged_shard_is_reported_and_does_not_stop_the_others(tmp_path, names, damage, reason):
    folder = images_in(tmp_path / "in", names)
    bad = pack(tmp_path / "s-0.tar", folder, names[:5])
    bad.write_bytes(damage(bad.read_bytes()))
    pack(tmp_path / "s-1.tar", folder, names[5:])
    _, written = write(tmp_path / "s-{0..1}.tar", tmp_path / "out")
    (failure,) = written.failures
    assert failure.item.name == "s-0" and len(failure.reason) < 300
    assert any(text in failure.reason for text in reason.split("|"))
    assert [path.name for path in (tmp_path / "out/maps").iterdir()] == ["s-1.tar"]


def test_a_shard_that_cannot_be_written_is_no_output_and_does_not_stop_the_others(tmp_path, names, monkeypatch):
    folder = images_in(tmp_path / "in", names)
    pack(tmp_path / "s-0.tar", folder, names[:7])
    pack(tmp_path / "s-1.tar", folder, names[7:])
    write_member, calls = shards.TarWriter.write, []

    def full(self, sample):
        calls.append(sample["__key__"])
        if sample["__key__"] == "deep/0002":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_member(self, sample)

    monkeypatch.setattr(shards.TarWriter, "write", full)
    _, written = write(tmp_path / "s-{0..1}.tar", tmp_path / "out")
    (failure,) = written.failures
    assert (
        failure.reason == f"{tmp_path}/out/maps/s-0.tar: can't be written (No space left on device). Free space there."
    )
    assert [task.name for task in written.done] == ["s-1"] and written.images == 3
    assert [path.name for path in (tmp_path / "out/maps").iterdir()] == ["s-1.tar"]
    # Nothing goes into an abandoned shard. Two shards are written at a time; each keeps its order.
    numbers = [int(key.removeprefix("deep/")) for key in calls]
    assert [number for number in numbers if number < 7] == [0, 1, 2]
    assert [number for number in numbers if number >= 7] == [7, 8, 9]


def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path, names):
    folder = images_in(tmp_path / "in", names)
    pack(tmp_path / "s.tar", folder, [], [("../../evil.png", (folder / names[0]).read_bytes())])
    _, written = write(tmp_path / "s.tar", tmp_path / "out")
    assert "leads out of its folder" in written.failures[0].reason
    assert not list((tmp_path / "out/maps").iterdir())


def test_a_missing_shard_or_brace_is_told_before_anything_runs(tmp_path):
    with pytest.raises(ShardError, match="no such shard; 2 of 2 are missing"):
        shard_set(tmp_path / "s-{0..1}.tar")
    with pytest.raises(ShardError, match="the braces do not pair"):
        shard_set(tmp_path / "s-{0..1.tar")
