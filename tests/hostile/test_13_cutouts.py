"""Point 13: cutouts keep the ICC profile and the resolution of their image; the orientation is applied and not kept."""

import numpy as np
import pytest
from PIL import Image, ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_profile_resolution_and_orientation(run, tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    more = {} if suffix == ".webp" else {"dpi": (300, 300)}
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / f"in/a{suffix}", exif=exif, icc_profile=PROFILE, **more)
    assert run("--images", tmp_path / "in", "--cutout", "--overlay") == 0
    cutout = Image.open(tmp_path / "out/cutout/a.png")
    assert cutout.size == (20, 30) and cutout.mode == "RGBA"
    assert cutout.info["icc_profile"] == PROFILE and 0x0112 not in cutout.getexif()
    if more:
        assert cutout.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("name", ["cut.png", "cut.webp", "deep/cut.tif"])
def test_one_file_as_output(run, photos, tmp_path, name):
    assert run("--images", photos / "b.jpg", "--cutout", "--out", tmp_path / name) == 0
    assert Image.open(tmp_path / name).mode == "RGBA"
    assert [path.name for path in (tmp_path / name).parent.iterdir() if path.is_file()] == [name.split("/")[-1]]
