"""Styles of a cutout, and what its file keeps of the image's."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.image_io import write_png
from inference import compositing
from inference.cutouts import KINDS, SUFFIXES, CutoutError, Style, check_format, encode, write_cutout

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def saliency():
    soft = np.zeros((40, 60), np.uint8)
    soft[10:30, 20:50], soft[12:28, 22:48] = 128, 255
    return soft


@pytest.mark.parametrize("kind", [*KINDS, "red", "#ff8000", "rgb(1, 2, 3)"])
def test_every_type_keeps_the_object(image, saliency, kind):
    out = Style.parse(kind).compose(image, saliency)
    sure = saliency == 255
    if kind == "map":
        assert (out == saliency).all()
    elif kind != "overlay":
        assert (out[sure][:, :3] == image[sure]).all()
    clear = {
        "white": 255,
        "green": (0, 255, 0),
        "red": (255, 0, 0),
        "#ff8000": (255, 128, 0),
        "rgb(1, 2, 3)": (1, 2, 3),
    }
    if kind in clear:
        assert (out[saliency == 0] == clear[kind]).all()


def test_a_file_is_a_background(image, saliency, tmp_path):
    write_png(tmp_path / "beach.png", np.full((10, 10, 3), 77, np.uint8))
    out = Style.parse(str(tmp_path / "beach.png")).compose(image, saliency)
    assert (out[saliency == 0] == 77).all()


def test_a_crop_is_the_part_of_the_whole(image, saliency):
    whole = Style.parse("rgba").compose(image, saliency)
    assert (Style.parse("rgba", crop=0.0).compose(image, saliency) == whole[10:30, 20:50]).all()
    assert (Style.parse("rgba", crop=0.1).compose(image, saliency) == whole[7:33, 17:53]).all()


def test_despill_can_be_left_out(image, saliency):
    out = Style.parse("rgba", despilled=False).compose(image, saliency)
    assert (out[..., :3] == image).all()
    assert (Style.parse("rgba").compose(image, saliency) == compositing.cut_out(image, saliency)).all()


@pytest.mark.parametrize(
    ("kind", "crop", "message"), [("glass", None, "--type glass: neither"), ("rgba", 1.5, "--crop")]
)
def test_other_words_are_refused(kind, crop, message):
    with pytest.raises(CutoutError, match=message):
        Style.parse(kind, crop=crop)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_files_keep_pixels_profile_and_resolution(image, suffix, channels):
    array = np.dstack([image, image[..., 0]])[..., :channels] if channels else image[..., 0]
    if channels == 4 and suffix in (".jpg", ".jpeg"):
        return
    file = Image.open(io.BytesIO(encode(array, suffix, PROFILE, (300.0, 300.0))))
    assert file.info["icc_profile"] == PROFILE
    if suffix != ".webp":
        assert file.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    if suffix not in (".jpg", ".jpeg"):
        read = np.asarray(file if channels else file.convert("L"))
        assert (read == array).all()


def test_a_large_png_has_the_same_content(image, monkeypatch):
    """It is encoded by Pillow, which needs no copy of the pixels."""
    array = np.dstack([image, image[..., 0]])
    small = encode(array, ".png", PROFILE, (300.0, 200.0))
    monkeypatch.setattr("inference.cutouts._LARGE", array.size)
    large = encode(array, ".png", PROFILE, (300.0, 200.0))
    assert large != small
    files = [Image.open(io.BytesIO(content)) for content in (small, large)]
    assert files[0].info == files[1].info
    assert (np.asarray(files[0]) == array).all() and (np.asarray(files[1]) == array).all()


def test_formats_that_cannot_hold_the_result(image, tmp_path):
    with pytest.raises(CutoutError, match=r"a\.jpg: JPEG has no transparency"):
        write_cutout(tmp_path / "a.jpg", np.dstack([image, image[..., 0]]))
    with pytest.raises(CutoutError, match=r"a\.gif: the suffix '\.gif' is not supported"):
        check_format(tmp_path / "a.gif", alpha=False)
    assert not list(tmp_path.iterdir())
