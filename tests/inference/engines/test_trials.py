"""Successive halving with injected timings."""

from itertools import cycle

import pytest

from inference.engines.trials import ROUNDS, race


def turns(**seconds):
    counts, values = dict.fromkeys(seconds, 0), {name: cycle(times) for name, times in seconds.items()}

    def call(name):
        counts[name] += 1
        return next(values[name])

    return {name: lambda name=name: call(name) for name in seconds}, counts


def test_candidates_that_are_far_behind_are_stopped_early():
    calls, counts = turns(a=[1.0], b=[1.1], far=[2.1], farther=[9.0], near=[1.5])
    assert race(calls).winner == "a"
    assert counts == {"a": 5, "b": 5, "far": 1, "farther": 1, "near": 1}
    calls, counts = turns(a=[1.0], behind=[1.5])
    assert race(calls).winner == "a" and counts == {"a": 5, "behind": 2}


def test_of_many_that_are_close_the_slower_half_is_dropped():
    calls, counts = turns(a=[1.00], b=[1.01], c=[1.02], d=[1.03], e=[1.04], f=[1.05])
    assert race(calls).winner == "a"
    assert counts == {"a": 5, "b": 5, "c": 2, "d": 1, "e": 1, "f": 1}


def test_a_slow_first_turn_does_not_decide():
    calls, _ = turns(a=[1.9, 1.0, 1.0, 1.0, 1.0], b=[1.2])
    assert race(calls).winner == "a"


def test_one_candidate_needs_no_rival():
    calls, counts = turns(a=[1.0])
    assert race(calls).winner == "a" and counts["a"] == sum(ROUNDS)


@pytest.mark.parametrize(("seconds", "noisy"), [([2.0, 1.0, 1.05, 1.1, 1.1], False), ([1.0, 1.0, 1.2, 1.0, 1.0], True)])
def test_a_spread_over_15_percent_is_noise_but_for_the_first_turn(seconds, noisy):
    calls, _ = turns(a=seconds, b=[3.0])
    assert race(calls).noisy is noisy
