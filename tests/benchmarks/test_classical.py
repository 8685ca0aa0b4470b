"""benchmarks/classical.py writes maps; without OpenCV's contributed modules it names the package to install."""

import json

import cv2
import pytest

from benchmarks import classical
from data.layouts import find_pairs
from evaluation.map_files import pair_maps, read_map
from tests.scored import write_bench
from utils.errors import UserError

HAS_MODULES = hasattr(cv2, "saliency")


@pytest.mark.skipif(HAS_MODULES, reason="this OpenCV has the contributed modules")
def test_it_says_what_to_install(bench, tmp_path):
    with pytest.raises(UserError, match=r"has no saliency module.*opencv-contrib-python-headless"):
        classical.main(["--data", f"A={bench / 'data'}", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_MODULES, reason="needs opencv-contrib-python-headless in an environment of its own")
def test_maps_of_every_method(tmp_path, capsys):
    root = write_bench(tmp_path, 3)
    assert classical.main(["--data", f"A={root / 'data'}", "--out", str(tmp_path / "out")]) == 0
    times = json.loads(capsys.readouterr().out.splitlines()[-1])["seconds_per_image"]
    assert set(times) == {"SpectralResidual", "FineGrained"}
    for method in times:
        maps = pair_maps(find_pairs(root / "data"), tmp_path / "out" / method / "A")
        assert all(read_map(each.map_path).shape == (64, 64) and read_map(each.map_path).max() > 50 for each in maps)


def test_bytes_of_a_method():
    image = cv2.merge([cv2.getGaussianKernel(9, 2) @ cv2.getGaussianKernel(7, 2).T * 2000] * 3).astype("uint8")
    seen = []

    def compute(pixels):
        seen.append(pixels)
        return True, pixels[..., 0].astype("float32") / 200

    saliency = classical._method(compute)(image)
    assert saliency.dtype == "uint8" and saliency.shape == (9, 7)
    assert (seen[0] == image[..., ::-1]).all()
    with pytest.raises(UserError, match="gave no map"):
        classical._method(lambda pixels: (False, pixels))(image)
