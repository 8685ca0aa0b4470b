"""The examples read images as test.py does."""

import runpy

import numpy as np
import pytest
from PIL import Image

from data.image_io import read_image

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 30, 4)).astype(np.uint8)


@pytest.fixture(scope="module")
def read(root):
    """The reader of both examples; tests/test_export.py runs them whole."""
    return runpy.run_path(str(root / "examples/reading.py"))["read"]


@pytest.mark.parametrize("kind", ["rgb", "grey", "transparent", "palette", "16-bit", "turned"])
def test_images_are_read_as_by_test_py(read, kind, tmp_path):
    path = tmp_path / "a.png"
    images = {
        "rgb": Image.fromarray(BYTES[..., :3]),
        "grey": Image.fromarray(BYTES[..., 0]),
        "transparent": Image.fromarray(BYTES),
        "palette": Image.fromarray(BYTES[..., :3]).quantize(16),
        "16-bit": Image.fromarray(RNG.integers(0, 65536, (20, 30)).astype(np.uint16)),
        "turned": Image.fromarray(BYTES[..., :3]),
    }
    more = {"palette": {"transparency": 3}, "turned": {"exif": _turned()}}
    images[kind].save(path, **more.get(kind, {}))
    np.testing.assert_array_equal(read(str(path)), read_image(path))


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
