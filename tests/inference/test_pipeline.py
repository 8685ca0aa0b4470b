"""The overlapped run: order, batches, failures, overlap and bounds."""

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.pipeline import AHEAD, Stages, in_background, run
from utils.errors import UserError


class Recorder:
    """Stages that add one to a number, and remember what they saw."""

    def __init__(self, unreadable: frozenset[int] = frozenset(), unwritable: frozenset[int] = frozenset()) -> None:
        self.unreadable, self.unwritable = unreadable, unwritable
        self.batches: list[int] = []
        self.written: dict[int, int] = {}

    def read(self, item: int) -> int:
        if item in self.unreadable:
            raise UserError(f"{item}: cannot be read")
        return item

    def network(self, group: Sequence[int]) -> list[int]:
        self.batches.append(len(group))
        return [value + 1 for value in group]

    def write(self, item: int, loaded: int, result: int) -> None:
        if item in self.unwritable:
            raise OSError(f"{item}: no room")
        self.written[item] = result

    @property
    def stages(self) -> Stages[int, int, int]:
        return Stages(self.read, self.network, self.write)


@given(
    count=st.integers(0, 40),
    batch=st.integers(1, 9),
    workers=st.integers(1, 4),
    streams=st.integers(1, 3),
    unreadable=st.frozensets(st.integers(0, 40)),
    unwritable=st.frozensets(st.integers(0, 40)),
)
def test_every_item_is_written_once_or_reported(count, batch, workers, streams, unreadable, unwritable):
    recorder, calls = Recorder(unreadable, unwritable), []
    failures = run(range(count), recorder.stages, batch, workers, streams, lambda: calls.append(1))
    bad = sorted(i for i in range(count) if i in unreadable | unwritable)
    assert recorder.written == {i: i + 1 for i in range(count) if i not in bad}
    assert sorted(failure.item for failure in failures) == bad
    assert len(calls) == count
    parts = [range(count)[start : start + batch] for start in range(0, count, batch)]
    sizes = [sum(i not in unreadable for i in part) for part in parts]
    assert sorted(recorder.batches) == sorted(size for size in sizes if size)


def test_reasons_are_those_of_the_errors():
    failures = run(range(3), Recorder(frozenset({0}), frozenset({2})).stages, 2)
    assert [(failure.item, failure.reason) for failure in failures] == [
        (0, "0: cannot be read"),
        (2, "2: no room"),
    ]


@pytest.mark.parametrize("stage", ["read", "network", "write"])
def test_a_fault_of_the_program_is_raised(stage):
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    recorder = Recorder()
    stages = Stages(**{"read": recorder.read, "network": recorder.network, "write": recorder.write, stage: fault})
    with pytest.raises(ZeroDivisionError):
        run(range(100), stages, 4)


def test_a_network_that_loses_a_result_is_a_fault():
    with pytest.raises(ValueError, match="shorter"):
        run(range(4), Stages(lambda i: i, lambda group: group[:-1], lambda *_: None), 2)


def test_the_stages_overlap():
    """The first item is written while the network has the next batch and a later item is read, or all would wait."""
    reading, computing = threading.Event(), threading.Event()

    def read(item: int) -> int:
        if item == 8:
            reading.set()
        return item

    def network(group: Sequence[int]) -> Sequence[int]:
        if group[0] == 4:
            computing.set()
            assert reading.wait(60), "nothing is read while the network works"
        return group

    def write(item: int, *_: int) -> None:
        if item == 0:
            assert computing.wait(60), "the network waits for the writer"

    assert run(range(24), Stages(read, network, write), 4) == []


def test_results_are_handed_over_in_order_whichever_stream_ends_first():
    """A video's frames must reach the file one after the other."""
    order: list[int] = []

    def network(group: Sequence[int]) -> Sequence[int]:
        time.sleep(0.02 if group[0] % 2 == 0 else 0.0)  # every other batch is slow
        return group

    run(range(12), Stages(lambda i: i, network, lambda item, *_: order.append(item)), 1, workers=1, streams=3)
    assert order == list(range(12))


def test_network_threads_run_side_by_side():
    """Both wait for each other: one thread alone would never pass."""
    meeting = threading.Barrier(2, timeout=10)

    def network(group: Sequence[int]) -> Sequence[int]:
        meeting.wait()
        return group

    assert run(range(8), Stages(lambda i: i, network, lambda *_: None), 1, streams=2) == []


def test_what_is_in_flight_is_bounded():
    """However slow the writer, no more items pile up than look-ahead, batch and backlog hold."""
    lock, in_flight, peak, batch, workers, streams = threading.Lock(), 0, 0, 3, 2, 2

    def read(item: int) -> int:
        nonlocal in_flight, peak
        with lock:
            in_flight += 1
            peak = max(peak, in_flight)
        return item

    def write(*_: int) -> None:
        nonlocal in_flight
        time.sleep(0.002)
        with lock:
            in_flight -= 1

    run(range(200), Stages(read, list, write), batch, workers, streams)
    assert in_flight == 0
    assert peak <= (2 * AHEAD + streams + 2) * batch + 2


def test_small_batches_leave_no_reader_idle():
    """All four readers wait for each other, though the network takes one item at a time."""
    meeting = threading.Barrier(4, timeout=10)
    assert run(range(8), Stages(lambda _: meeting.wait(), list, lambda *_: None), 1, workers=4) == []


def test_items_are_taken_lazily():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    def network(group: Sequence[int]) -> list[int]:
        raise UserError("stop here")

    with pytest.raises(UserError, match="stop here"):
        run(items(), Stages(lambda i: i, network, lambda *_: None), 2)
    assert len(taken) < 10


def test_in_background_keeps_order_and_runs_ahead():
    taken = []

    def source():
        for i in range(20):
            taken.append(i)
            yield i

    items = in_background(source(), 4)
    assert next(items) == 0
    end = time.monotonic() + 60
    while len(taken) < 5 and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(taken) == 5  # the first, and four ahead
    assert list(items) == list(range(1, 20))


def test_in_background_passes_faults_on():
    def source():
        yield 1
        raise UserError("broken")

    items = in_background(source(), 3)
    assert next(items) == 1
    with pytest.raises(UserError, match="broken"):
        next(items)


def test_in_background_closed_early_leaves_no_thread():
    readers = set()

    def source():
        for i in range(10**9):
            readers.add(threading.current_thread())
            yield i

    early = in_background(source(), 2)
    assert next(early) == 0
    early.close()
    assert len(readers) == 1
    assert not any(thread.is_alive() for thread in readers)
