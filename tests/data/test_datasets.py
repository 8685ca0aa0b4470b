"""Batches: complete, reproducible, and the same after a stop."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.datasets import Batch, EpochBatches, SaliencyDataset, SampleKey, make_loader, split_pairs
from data.errors import DataError
from data.image_io import ImageReadError, write_png
from data.layouts import Pair, find_pairs
from data.settings import AugmentConfig, DataConfig
from data.transforms import EvalTransform, TrainTransform

LENGTHS, BATCHES, WORLDS = st.integers(1, 60), st.integers(1, 9), st.integers(1, 4)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    rng = np.random.default_rng(0)
    for index in range(10):
        mask = np.zeros((40, 50), np.uint8)
        cv2.circle(mask, (int(rng.integers(10, 40)), 20), 9, 255, -1)
        write_png(tmp_path / "images" / f"{index}.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        write_png(tmp_path / "masks" / f"{index}.png", mask)
    return find_pairs(tmp_path)


def dataset(pairs: list[Pair]) -> SaliencyDataset:
    return SaliencyDataset(pairs, TrainTransform(AugmentConfig(rotate=10, colour=0.2)), seed=7)


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_a_sample_depends_on_its_key_and_the_seed_alone(pairs: list[Pair]):
    key = SampleKey(2, 3, 32)
    first = dataset(pairs)[key]
    dataset(pairs)[SampleKey(0, 0, 32)]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    again = dataset(pairs)[key]
    assert torch.equal(first.image, again.image) and torch.equal(first.mask, again.mask) and again.index == 3
    for other in (SampleKey(1, 3, 32), SampleKey(2, 4, 32)):
        assert not torch.equal(dataset(pairs)[other].image, first.image)
    reseeded = SaliencyDataset(pairs, dataset(pairs).transform, seed=8)[key]
    assert not torch.equal(reseeded.image, first.image)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches(pairs: list[Pair], workers: int):
    batches = EpochBatches(len(pairs), 4, [32, 48], seed=1)
    loader = make_loader(dataset(pairs), batches, workers)
    seen: list[int] = []
    for epoch in range(2):
        batches.set_position(epoch)
        got = list(loader)
        assert len(got) == len(loader) == 3
        for batch in got:
            count, size = len(batch.index), batch.image.shape[-1]
            assert batch.image.shape == (count, 3, size, size) and batch.mask.shape == (count, 1, size, size)
            assert batch.image.is_contiguous(memory_format=torch.channels_last)
            assert size in (32, 48)
        seen += [int(index) for batch in got for index in batch.index]
    assert sorted(seen) == sorted([*range(10), *range(10)])


def test_going_on_in_the_middle_gives_the_same_batches(pairs: list[Pair]):
    whole = EpochBatches(len(pairs), 2, [32, 40], seed=3)
    whole.set_position(1)
    expected = list(make_loader(dataset(pairs), whole, 0))
    rest = EpochBatches(len(pairs), 2, [32, 40], seed=3)
    rest.set_position(1, 2)
    got = list(make_loader(dataset(pairs), rest, 2))
    assert len(got) == 3
    assert all(equal(a, b) for a, b in zip(expected[2:], got, strict=True))


@given(length=LENGTHS, batch_size=BATCHES, world=WORLDS, seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_index_exactly_once(length: int, batch_size: int, world: int, seed: int, epoch: int):
    ranks = []
    for rank in range(world):
        batches = EpochBatches(length, batch_size, [32, 64], seed=seed, rank=rank, world=world)
        batches.set_position(epoch)
        ranks.append(list(batches))
        assert len(ranks[-1]) == len(batches) == batches.per_epoch
        assert all(1 <= len(batch) <= batch_size for batch in ranks[-1])
        assert all(len({key.size for key in batch}) == 1 for batch in ranks[-1])
        assert all(key.epoch == epoch for batch in ranks[-1] for key in batch)
    assert sorted(key.index for rank in ranks for batch in rank for key in batch) == list(range(length))


@given(length=LENGTHS, batch_size=BATCHES, world=WORLDS, seed=st.integers(0, 9))
def test_with_drop_last_ranks_are_alike(length: int, batch_size: int, world: int, seed: int):
    if length < batch_size * world:
        with pytest.raises(DataError, match=f"{length} samples do not fill one batch of {batch_size}"):
            EpochBatches(length, batch_size, [32], seed=seed, world=world, drop_last=True)
        return
    settings = {"seed": seed, "world": world, "drop_last": True}
    ranks = [list(EpochBatches(length, batch_size, [32, 64], rank=rank, **settings)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {length // (batch_size * world)}
    assert all(len(batch) == batch_size for rank in ranks for batch in rank)
    for step in zip(*ranks, strict=True):
        assert len({key.size for batch in step for key in batch}) == 1
    indices = [key.index for rank in ranks for batch in rank for key in batch]
    assert len(set(indices)) == len(indices)


@given(length=LENGTHS, batch_size=BATCHES, epoch=st.integers(0, 3), data=st.data())
def test_a_position_is_a_skip(length: int, batch_size: int, epoch: int, data):
    whole, part = (EpochBatches(length, batch_size, [32, 64, 96], seed=5) for _ in range(2))
    skipped = data.draw(st.integers(0, whole.per_epoch))
    whole.set_position(epoch)
    part.set_position(epoch, skipped)
    assert list(part) == list(whole)[skipped:]
    assert len(part) == len(whole) - skipped


def test_epochs_differ_and_sizes_vary():
    batches = EpochBatches(40, 2, [32, 64, 96], seed=0)
    epochs = []
    for epoch in range(2):
        batches.set_position(epoch)
        epochs.append(list(batches))
    assert [k.index for b in epochs[0] for k in b] != [k.index for b in epochs[1] for k in b]
    assert {key.size for batch in epochs[0] for key in batch} == {32, 64, 96}


def test_one_rank_of_several_has_the_same_samples_as_one_process():
    together = list(EpochBatches(24, 6, [32], seed=2))
    apart = [list(EpochBatches(24, 3, [32], seed=2, rank=rank, world=2)) for rank in range(2)]
    for whole, *parts in zip(together, *apart, strict=True):
        assert sorted(whole) == sorted(key for part in parts for key in part)


def test_positions_that_are_not_there():
    batches = EpochBatches(10, 4, [32])
    for epoch, batch in ((-1, 0), (0, 4), (0, -1)):
        with pytest.raises(DataError, match="an epoch has 3 batches"):
            batches.set_position(epoch, batch)
    for settings in ({"rank": 2, "world": 2}, {"rank": -1}):
        with pytest.raises(DataError, match="ranks count from 0"):
            EpochBatches(10, 4, [32], **settings)
    with pytest.raises(DataError, match="0 samples"):
        EpochBatches(0, 4, [32])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_in_one_line(pairs: list[Pair], workers: int):
    pairs[6].image.write_bytes(b"")
    loader = make_loader(dataset(pairs), EpochBatches(10, 2, [32]), workers)
    with pytest.raises(ImageReadError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"{pairs[6].image}: the file is empty")
    assert "\n" not in str(caught.value)


FAILING = """
import sys
from data.datasets import EpochBatches, SaliencyDataset, make_loader
from data.layouts import find_pairs
from data.transforms import TrainTransform

batches = iter(make_loader(SaliencyDataset(find_pairs(sys.argv[1]), TrainTransform()), EpochBatches(10, 2, [32])))
next(batches)
raise SystemExit(3)
"""


def test_a_program_that_fails_ends_its_workers(pairs: list[Pair], tmp_path: Path, root: Path):
    command = [sys.executable, "-c", FAILING, f"{tmp_path}"]
    done = subprocess.run(command, cwd=root, timeout=600, check=False)
    assert done.returncode == 3


WAITING = """
import time
from data.datasets import worker_init
worker_init(0)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_worker_outlives_the_first_signals_but_not_the_second_sigterm(root: Path):
    # A program of its own: a fork of the one that runs the tests would copy the locks of its threads without them.
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=root, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for number in (signal.SIGINT, signal.SIGTERM):
            worker.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(0.3)
        worker.terminate()
        assert worker.wait(120) == -signal.SIGTERM


def test_masks_that_do_not_fit(pairs: list[Pair]):
    write_png(pairs[0].mask, np.zeros((50, 40), np.uint8))
    with pytest.raises(DataError, match=r"0\.png: the mask is 40x50 and its image 0\.png 50x40"):
        dataset(pairs)[SampleKey(0, 0, 32)]
    write_png(pairs[1].mask, np.tile(np.arange(1, 51, dtype=np.uint8), (40, 1)))
    with pytest.raises(DataError, match=r"1\.png: ambiguous masks: grey values 1 .*; no value is 0"):
        dataset(pairs)[SampleKey(0, 1, 32)]
    write_png(pairs[2].mask, np.zeros((40, 50), np.uint8))
    assert dataset(pairs)[SampleKey(0, 2, 32)].mask.sum() == 0


def test_evaluation_ignores_epoch_and_seed(pairs: list[Pair]):
    one = SaliencyDataset(pairs, EvalTransform(), 0)[SampleKey(0, 1, 32)]
    other = SaliencyDataset(pairs, EvalTransform(), 9)[SampleKey(5, 1, 32)]
    assert torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)


def names(count: int) -> list[Pair]:
    return [Pair(f"{n:03}", Path(f"images/{n:03}.jpg"), Path(f"masks/{n:03}.png")) for n in range(count)]


@given(count=st.integers(2, 80), held_out=st.floats(0, 0.9), seed=st.integers(0, 99), order=st.randoms())
def test_a_split_is_disjoint_complete_and_of_the_seed_alone(
    count: int, held_out: float, seed: int, order: random.Random
):
    pairs = names(count)
    if max(round(held_out * count), int(held_out > 0)) >= count:
        return
    kept, out = split_pairs(pairs, held_out, seed)
    assert sorted(kept + out) == pairs and not set(kept) & set(out)
    assert len(out) == max(round(held_out * count), int(held_out > 0))
    assert split_pairs(order.sample(pairs, count), held_out, seed) == (kept, out)


def test_seeds_split_differently():
    assert split_pairs(names(50), 0.2, 0)[1] != split_pairs(names(50), 0.2, 1)[1]


def test_splits_that_leave_nothing():
    with pytest.raises(DataError, match=r"held_out is 1\.0"):
        split_pairs(names(5), 1.0, 0)
    with pytest.raises(DataError, match=r"0\.9 of 3 pairs leaves none"):
        split_pairs(names(3), 0.9, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_batches_are_those_of_the_files(pairs: list[Pair], workers: int):
    transform = TrainTransform(AugmentConfig(rotate=10, colour=0.2))
    batches = EpochBatches(len(pairs), 4, [32, 48], seed=1)
    expected = list(make_loader(dataset(pairs), batches, 0))
    cached = SaliencyDataset(pairs, transform, 7, cache=True)
    for pair in pairs:
        pair.image.unlink()
        pair.mask.unlink()
    for _ in range(2):
        found = list(make_loader(cached, batches, workers))
        assert all(equal(one, other) for one, other in zip(found, expected, strict=True))
    with pytest.raises(DataError, match="cannot be opened"):
        SaliencyDataset(pairs, transform, 7, cache=True)


def test_automatic_workers_leave_two_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for cores, processes, wanted in ((16, 1, 14), (16, 4, 3), (3, 1, 1), (2, 1, 1), (1, 2, 1)):
        monkeypatch.setattr("data.settings.usable_cores", lambda cores=cores: cores)
        assert DataConfig(tmp_path).worker_count(processes) == wanted
    assert DataConfig(tmp_path, workers=0).worker_count() == 0
