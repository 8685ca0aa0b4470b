"""Reading, network and writing of many pictures, overlapped in bounded memory.

    reader threads  ->  look-ahead  ->  network threads, a batch each  ->  backlog  ->  writer threads

Threads suffice: decoding, resizing and encoding run in OpenCV, Pillow and NumPy, which let go of the
interpreter's lock. Look-ahead and backlog are bounded, so 10,000 pictures need no more memory than a few
batches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from utils.errors import UserError

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")

_Group = list[tuple[Item, Loaded]]

AHEAD = 2  # batches, or pictures a worker, that are read ahead of the network and that may wait to be written


@dataclass(frozen=True)
class Stages(Generic[Item, Loaded, Result]):
    """The three stages of a run.

    Args:
        read: makes of one item what the network takes; called in reader threads.
        network: makes of a batch one result for each of its elements, in order; called in network threads.
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
) -> list[Failure[Item]]:
    """Takes every item through the three stages; one bad item does not stop the others.

    Args:
        items: taken lazily, a few batches ahead of the network.
        stages: what to do.
        batch: items that the network takes at once; only the last batch may be smaller.
        workers: reader threads, and as many writer threads.
        streams: network threads. As many as there are cores, of one thread each, wait for nobody: a network that
            shares out each layer over all cores stands still while one of them decodes a picture.
        settled: called once for every item, after it is written or has failed; for a progress bar.

    Returns:
        The items that could not be read or written (`UserError` or `OSError`), as they were met. Any other
        exception is a fault of the program: it is raised, and what waits is dropped.
    """
    failures: list[Failure[Item]] = []
    ahead = AHEAD * max(batch, workers)  # small batches must not leave readers idle
    computing: deque[tuple[_Group[Item, Loaded], Future[Sequence[Result]]]] = deque()
    backlog: deque[tuple[Item, Future[None]]] = deque()

    def settle(item: Item, error: UserError | OSError | None) -> None:
        if error is not None:
            failures.append(Failure(item, str(error)))
        settled()

    def finish(batches: int, results: int) -> None:
        """Hands over and settles in order, until so few are left behind."""
        while len(computing) > batches:
            group, future = computing.popleft()
            for (item, loaded), result in zip(group, future.result(), strict=True):
                backlog.append((item, writers.submit(stages.write, item, loaded, result)))
        while len(backlog) > results:
            settle(*_written(*backlog.popleft()))

    with (
        _threads(workers, "read") as readers,
        _threads(streams, "network") as networks,
        _threads(workers, "write") as writers,
    ):
        for group in _batches(_read_ahead(items, stages.read, readers, ahead), batch, settle):
            computing.append((group, networks.submit(stages.network, [loaded for _, loaded in group])))
            finish(streams, ahead)  # one batch lies ready while all streams are busy
        finish(0, 0)
    return failures


def in_background(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, taken in a thread of its own up to `depth` ahead.

    For a source that must be read one after the other, such as a video. Close the generator to end it early.
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
    """Threads that end with the block; what they have not begun by then is dropped."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Loaded], readers: ThreadPoolExecutor, depth: int
) -> Iterator[tuple[Item, Future[Loaded]]]:
    """Starts reading up to `depth` items before the one that is asked for."""
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
    settle: Callable[[Item, UserError | OSError | None], None],
) -> Iterator[_Group[Item, Loaded]]:
    """Full batches of what could be read; what could not is settled on the way."""
    group: _Group[Item, Loaded] = []
    for item, future in started:
        try:
            group.append((item, future.result()))
        except (UserError, OSError) as error:
            settle(item, error)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _written(item: Item, future: Future[None]) -> tuple[Item, UserError | OSError | None]:
    error = future.exception()
    if error is None or isinstance(error, UserError | OSError):
        return item, error
    raise error
