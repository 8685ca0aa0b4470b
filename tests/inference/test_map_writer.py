"""How images are divided among network threads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.map_writer import even_batch


@given(st.integers(0, 10_000), st.integers(1, 64), st.integers(1, 16))
def test_calls_are_as_few_as_before_and_no_larger_than_asked(images, most, streams):
    batch = even_batch(images, most, streams)
    rounds = -(-images // (most * streams))
    assert 1 <= batch <= most
    assert -(-images // batch) <= rounds * streams


@pytest.mark.parametrize(("images", "batch"), [(40, 7), (48, 8), (250, 8), (3, 2), (0, 1)])
def test_two_streams_of_at_most_eight(images, batch):
    """40 images: six calls of 7 and fewer, three for each stream, where five calls of 8 leave one stream idle."""
    assert even_batch(images, 8, 2) == batch
