"""Reading, network and writing of many images, overlapped in bounded memory.

    reader threads  ->  look-ahead  ->  network threads, a batch each  ->  backlog  ->  writer threads

Threads suffice: decoding, resizing and encoding run in OpenCV, Pillow and NumPy, which release the
interpreter's lock. Look-ahead and backlog are bounded, so 10,000 images need no more memory than a few
batches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Generic, TypeVar, cast

from utils.errors import UserError, one_line

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")

_Group = list[tuple[Item, Loaded]]
Fault = UserError | OSError | MemoryError
"""An error that concerns one item only."""

AHEAD = 2  # batches, or images for each worker, that are read ahead of the network and that may wait to be written


@dataclass(frozen=True)
class Stages(Generic[Item, Loaded, Result]):
    """The three stages of a run.

    Args:
        read: converts one item to what the network takes; called in reader threads.
        network: computes one result for each element of a batch, in order; called in network threads.
        write: stores one result; called in writer threads.
    """

    read: Callable[[Item], Loaded]
    network: Callable[[Sequence[Loaded]], Sequence[Result]]
    write: Callable[[Item, Loaded, Result], None]


@dataclass(frozen=True)
class Failure(Generic[Item]):
    """An item that could not be read or written, with the reason in one line."""

    item: Item
    reason: str


def run(
    items: Iterable[Item],
    stages: Stages[Item, Loaded, Result],
    batch: int,
    workers: int = 2,
    streams: int = 1,
    settled: Callable[[], object] = lambda: None,
    group: Callable[[Item], object] = lambda item: None,
) -> list[Failure[Item]]:
    """Takes every item through the three stages; an item that fails does not stop the others.

    Args:
        items: taken lazily, a few batches ahead of the network.
        stages: what to do.
        batch: items that the network takes at once. Batches are consecutive parts of `items`: one that holds an item
            that cannot be read is smaller, so that no other batch depends on what fails.
        workers: reader threads, and as many writer threads.
        streams: network threads. One for each core, of one thread each, is fastest: a network that divides each
            layer among all cores waits while one of them decodes an image.
        settled: called once for every item, after it is written or has failed; for a progress bar.
        group: of an item; a batch ends where the next item is of another group.

    Returns:
        The items that could not be read or written (`UserError`, `OSError` or `MemoryError`), in the order in which
        they failed. Any other exception is a fault of the program: it is raised, and what waits is dropped.
    """
    failures: list[Failure[Item]] = []
    ahead = AHEAD * max(batch, workers)  # small batches must not leave readers idle
    computing: deque[tuple[_Group[Item, Loaded], Future[Sequence[Result]]]] = deque()
    backlog: deque[tuple[Item, Future[None]]] = deque()

    def settle(item: Item, error: Fault | None) -> None:
        if error is not None:
            failures.append(Failure(item, _reason(error)))
        settled()

    def finish(batches: int, results: int) -> None:
        """Submits and settles in order, until so few batches and results are pending."""
        while len(computing) > batches:
            members, future = computing.popleft()
            for (item, loaded), result in zip(members, future.result(), strict=True):
                backlog.append((item, writers.submit(stages.write, item, loaded, result)))
        while len(backlog) > results:
            settle(*_written(*backlog.popleft()))

    with (
        _threads(workers, "read") as readers,
        _threads(streams, "network") as networks,
        _threads(workers, "write") as writers,
    ):
        for members in _batches(_read_ahead(items, stages.read, readers, ahead), batch, settle, group):
            computing.append((members, networks.submit(stages.network, [loaded for _, loaded in members])))
            finish(streams, ahead)  # one batch is ready while all streams are busy
        finish(0, 0)
    return failures


def in_background(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, taken in a thread of their own up to `depth` ahead.

    For a source that must be read in order, such as a video. Close the generator to end it early.
    """
    source, end = iter(items), object()
    thread = ThreadPoolExecutor(1, "source")
    try:
        ahead = deque(thread.submit(next, source, end) for _ in range(depth))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(thread.submit(next, source, end))
            yield cast(Item, item)
    finally:
        thread.shutdown(cancel_futures=True)


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; work that has not begun by then is dropped."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Loaded], readers: ThreadPoolExecutor, depth: int
) -> Iterator[tuple[Item, Future[Loaded]]]:
    """Starts reading up to `depth` items before the one that is yielded."""
    ahead: deque[tuple[Item, Future[Loaded]]] = deque()
    for item in items:
        ahead.append((item, readers.submit(read, item)))
        if len(ahead) > depth:
            yield ahead.popleft()
    while ahead:
        yield ahead.popleft()


def _batches(
    started: Iterable[tuple[Item, Future[Loaded]]],
    size: int,
    settle: Callable[[Item, Fault | None], None],
    group: Callable[[Item], object],
) -> Iterator[_Group[Item, Loaded]]:
    """Parts of `size` items of one group, each without those that could not be read, which are settled."""
    for _, members in groupby(started, lambda pair: group(pair[0])):
        while part := list(islice(members, size)):
            batch: _Group[Item, Loaded] = []
            for item, future in part:
                try:
                    batch.append((item, future.result()))
                except (UserError, OSError, MemoryError) as error:
                    settle(item, error)
            if batch:
                yield batch


def _written(item: Item, future: Future[None]) -> tuple[Item, Fault | None]:
    error = future.exception()
    if error is None or isinstance(error, Fault):
        return item, error
    raise error


def _reason(error: Fault) -> str:
    """A line that names the file."""
    if isinstance(error, MemoryError):
        return "not enough memory for this image. Scale it down, or use fewer --workers."
    return one_line(str(error))
