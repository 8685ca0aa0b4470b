"""Pairs of files to batches.

No random state lives in a worker. The augmentation of a sample depends only on the seed, the epoch and the sample's
index. The content of a batch depends only on the seed, the epoch and the batch's number. A resumed run therefore gets
the same samples as an uninterrupted one, with any number of workers.
"""

import atexit
import hashlib
import signal
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from data.errors import DataError
from data.image_io import Pixels
from data.layouts import Pair
from data.pairs import read_pair
from data.transforms import PairTransform


class SampleKey(NamedTuple):
    """The key of a sample: epoch, index and size.

    Args:
        epoch: counted from 0.
        index: of the pair.
        size: side of the square, pixels.
    """

    epoch: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    size: int


class Sample(NamedTuple):
    """One sample: image (3, S, S) float32 normalised, mask (1, S, S) float32 0 or 1, index of its pair.

    In distillation it has a soft map: (1, S, S) float32 in [0, 1].
    """

    image: Tensor
    mask: Tensor
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    soft_map: Tensor | None = None


class Batch(NamedTuple):
    """Several samples: image (B, 3, S, S) channels last in memory, mask (B, 1, S, S), index (B,) int64.

    In distillation it has soft maps: (B, 1, S, S).
    """

    image: Tensor
    mask: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    soft_map: Tensor | None = None


class SaliencyDataset(Dataset[Sample]):
    """Images with masks, read and transformed on access.

    Args:
        pairs: the files.
        transform: image and mask to tensors.
        seed: of the random numbers of the transform.
        cache: read all pairs now and keep them decoded. Workers that are forked share that memory; where processes
            are spawned (macOS, Windows), each worker has a copy.

    Raises:
        DataError: a pair cannot be read; only with `cache`.
    """

    def __init__(self, pairs: Sequence[Pair], transform: PairTransform, seed: int = 0, cache: bool = False) -> None:
        self.pairs = list(pairs)
        self.transform = transform
        self.seed = seed
        self._cached: list[tuple[Pixels, Pixels]] | None = None
        if cache:
            with ThreadPoolExecutor() as pool:  # OpenCV and Pillow decode outside the interpreter's lock
                self._cached = list(pool.map(read_pair, self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Reads and transforms one sample.

        Raises:
            DataError: a file cannot be read, or the mask has another size than the image.
        """
        image, mask = self.read(key.index)
        return Sample(*self.transform(image, mask, key.size, self.generator(key)), key.index)

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Image and mask of a pair, from its files or from memory; see `read_pair`."""
        return read_pair(self.pairs[index]) if self._cached is None else self._cached[index]

    def generator(self, key: SampleKey) -> np.random.Generator:
        """A new generator of all random numbers of a sample."""
        return np.random.default_rng([self.seed, key.epoch, key.index])


class EpochBatches(Sampler[list[SampleKey]]):
    """The batches of an epoch, starting at any position.

    Each epoch has its own order. A batch of all ranks together is a run of that order, distributed to the
    ranks in turn. Its size is drawn per batch and is the same on every rank.

    Args:
        length: number of samples.
        batch_size: samples of one batch on one rank.
        sizes: sides of the square to draw from; one is fixed, several are multi-scale training.
        seed: of order and sizes.
        rank: of this process.
        world: number of processes.
        drop_last: leave out the last batch of all ranks if it is short. With several ranks it should be
            set in training: a short one may give some rank a batch less.

    Raises:
        DataError: there are too few samples for one batch, or a setting is out of range.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        sizes: Sequence[int],
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < world or batch_size < 1 or not sizes or min(sizes) < 1:
            given = f"rank {rank} of {world}, batch size {batch_size}, sizes {list(sizes)}"
            raise DataError(f"{given}: ranks count from 0, batch size and sizes from 1, one size at least.")
        if length < (world * batch_size if drop_last else 1):
            raise DataError(
                f"{length} samples do not fill one batch of {batch_size} on each of {world} processes. "
                f"Give more images or a smaller batch size."
            )
        self.length = length
        self.batch_size = batch_size
        self.sizes = tuple(sizes)
        self.seed = seed
        self.rank = rank
        self.world = world
        self.drop_last = drop_last
        self.epoch = 0
        self.batch = 0

    @property
    def per_epoch(self) -> int:
        """Number of batches that this rank has in a whole epoch."""
        whole, rest = divmod(self.length, self.world * self.batch_size)
        return whole + int(rest > self.rank and not self.drop_last)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """The next iteration begins at this batch of this epoch, both counted from 0.

        Raises:
            DataError: an epoch has not so many batches.
        """
        if epoch < 0 or not 0 <= batch <= self.per_epoch:
            raise DataError(
                f"epoch {epoch}, batch {batch}: an epoch has {self.per_epoch} batches. Resume a run with the "
                f"data, batch size and number of processes that it started with."
            )
        self.epoch, self.batch = epoch, batch

    def __len__(self) -> int:
        return self.per_epoch - self.batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, total = self.epoch, self.world * self.batch_size
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.length)
        sizes = rng.choice(self.sizes, size=-(-self.length // total))
        for batch in range(self.batch, self.per_epoch):
            mine = order[batch * total : (batch + 1) * total][self.rank :: self.world]
            yield [SampleKey(epoch, int(index), int(sizes[batch])) for index in mine]


class PairLoader(DataLoader[Any]):
    """A loader that raises a worker's error as one line, without the worker's traceback."""

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            yield from super().__iter__()
        except DataError as error:
            # The worker's text ends in "module.Class: message"; our messages have one line.
            last = str(error).strip().splitlines()[-1]
            name = f"{type(error).__module__}.{type(error).__qualname__}: "
            raise type(error)(last.removeprefix(name)) from None


def split_pairs(pairs: Sequence[Pair], held_out: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Splits the pairs at random. The split depends on the names and the seed, not on the order of the pairs.

    Args:
        pairs: all of them.
        held_out: share of the second split, in [0, 1); above 0 it has at least one pair.
        seed: of the draw.

    Returns:
        The training split and the validation split, each sorted.

    Raises:
        DataError: the training split would be empty.
    """
    if not 0 <= held_out < 1:
        raise DataError(f"held_out is {held_out}; give a share of at least 0 and less than 1.")
    ordered = sorted(pairs)
    count = max(round(held_out * len(ordered)), int(held_out > 0))
    if count >= len(ordered):
        raise DataError(f"held_out {held_out:g} of {len(ordered)} pairs leaves none to train on. Give a smaller share.")
    chosen = {int(one) for one in np.random.default_rng(seed).permutation(len(ordered))[:count]}
    kept = [pair for index, pair in enumerate(ordered) if index not in chosen]
    return kept, [ordered[index] for index in sorted(chosen)]


def fingerprint(*parts: Sequence[Pair]) -> str:
    """16 hexadecimal digits that identify the names and the split, not the folder.

    The contents of the files do not count: a damaged image may be replaced between two parts of a run.
    """
    names = "\n\n".join("\n".join(pair.name for pair in part) for part in parts)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]


def make_loader(
    dataset: SaliencyDataset, batches: EpochBatches, workers: int = 1, pin_memory: bool = False
) -> PairLoader:
    """A loader that reads batches ahead in worker processes, which persist from epoch to epoch.

    Args:
        dataset: the samples.
        batches: which of them make a batch; move it with `set_position` before each iteration.
        workers: number of processes; 0 reads in this one.
        pin_memory: whether to place batches for a fast copy to a GPU.
    """
    loader = PairLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=worker_init,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers > 0 else None,
        # An iterator draws a number when it starts, which nothing here uses. Drawn from the global generator, it would
        # change the random numbers of the network's layers after a resume.
        generator=torch.Generator(),
    )
    # A failing program keeps its loader until the interpreter exits, which would wait for workers that never stop.
    atexit.register(_end_workers, weakref.ref(loader))
    return loader


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to a batch. The images are channels last in memory, as the samples are.

    Shapes:
        samples: (3, S, S) and (1, S, S) each, and (1, S, S) where all of them have a soft map.
        returns: (B, 3, S, S), (B, 1, S, S), (B,), and (B, 1, S, S) or None.
    """
    images = torch.stack([sample.image.permute(1, 2, 0) for sample in samples])  # (B, S, S, 3)
    masks = torch.stack([sample.mask for sample in samples])  # (B, 1, S, S)
    soft_maps = [sample.soft_map for sample in samples if sample.soft_map is not None]
    indices = torch.tensor([sample.index for sample in samples])
    return Batch(images.permute(0, 3, 1, 2), masks, indices, torch.stack(soft_maps) if soft_maps else None)


def worker_init(worker: int) -> None:
    """Sets up a worker: one thread, and signals left to the main process.

    The main process saves its state on a signal to the process group and then ends its workers. A worker therefore
    ignores SIGINT and the first SIGTERM. A second SIGTERM ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_workers(reference: "weakref.ref[PairLoader]") -> None:
    """Stops the workers of a loader, as deleting the loader does."""
    loader = reference()
    iterator = None if loader is None else loader._iterator
    if isinstance(iterator, _MultiProcessingDataLoaderIter):
        iterator._shutdown_workers()
