"""Time stamps of damaged and joined files become increasing seconds; all others stay as they are."""

from hypothesis import given
from hypothesis import strategies as st

from inference.video.clock import LONGEST_GAP, Clock


def times(stamps, step=0.1, end=None):
    clock = Clock(step, end)
    return [None if time is None else round(time, 6) for time in map(clock.at, stamps)]


@given(
    start=st.floats(0, 0.9 * LONGEST_GAP), gaps=st.lists(st.floats(0.001, 0.999 * LONGEST_GAP), max_size=60),
    step=st.sampled_from([1 / 25, 1 / 60]),
)  # fmt: skip
def test_times_of_any_rate_are_kept(start, gaps, step):
    clock, stamp = Clock(step), start
    assert clock.at(start) == start
    for gap in gaps:
        stamp += gap
        assert abs(clock.at(stamp) - stamp) < 1e-6


def test_a_clock_that_stands_or_is_missing_advances_by_one_step():
    assert times([0.0] * 4) == times([None] * 4) == [0.0, 0.1, 0.2, 0.3]


def test_a_clock_that_jumps_continues_one_step_later():
    for jump in (-5000.0, 5000.0):
        assert times([0.0, 0.1, jump, jump + 0.1]) == [0.0, 0.1, 0.2, 0.3]
        assert times([0.0, 0.1, jump, jump + 0.1], end=8.0) == [0.0, 0.1, 0.2, 0.3]


def test_a_frame_that_is_shown_for_minutes_is_no_jump_where_the_file_is_that_long():
    assert times([0.0, 0.1, 300.0], end=300.1) == [0.0, 0.1, 300.0]


def test_a_frame_out_of_order_is_left_out_and_does_not_shift_the_rest():
    assert times([0.0, 0.1, 0.3, 0.2, 0.4]) == [0.0, 0.1, 0.3, None, 0.4]
