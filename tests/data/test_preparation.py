"""Images as the network takes them: high ones are prepared from the rows that are read, with the same result."""

import cv2
import numpy as np
import pytest

from data import preparation
from data.preparation import prepare_array


@pytest.mark.parametrize(
    ("height", "width", "size"), [(300, 401, 64), (257, 31, 32), (5000, 37, 100), (130, 3, (32, 65))]
)
def test_a_high_image_is_prepared_as_any_other(height, width, size, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    quick = prepare_array(image, size)
    monkeypatch.setattr(preparation, "_HIGH", 10**9)
    assert np.abs(quick - prepare_array(image, size)).max() <= 5e-7 * np.abs(quick).max()


def test_of_a_high_image_only_the_rows_that_are_read_are_converted(monkeypatch):
    shapes, resize = [], cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda array, *rest, **named: shapes.append(array.shape) or resize(array, *rest, **named)
    )
    assert prepare_array(np.zeros((3000, 200, 3), np.uint8), 32).shape == (32, 32, 3)
    assert shapes == [(32, 200, 3)] * 2
