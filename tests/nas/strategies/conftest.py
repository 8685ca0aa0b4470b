"""Fixtures of the strategies' tests."""

import pytest

from tests.nas.strategies.planted import registered


@pytest.fixture(scope="module", autouse=True)
def planted():
    """The planted operation's space; other tests see the registered names of the project only."""
    with registered():
        yield
