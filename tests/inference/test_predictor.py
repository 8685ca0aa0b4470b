"""Predictor: inputs of every kind, the documented numerics, and its errors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from data.image_io import ImageReadError, write_png
from data.layouts import find_pairs
from data.masks import read_mask
from data.transforms import prepare_image
from inference.compositing import cut_out
from inference.cutouts import Style
from inference.predictor import Predictor, PredictorError, as_pixels
from inference.refinement import Refinement
from inference.saliency import restore, to_8bit
from inference.weights import load_network
from utils.checkpoint import CheckpointError
from utils.device import DeviceError


@pytest.fixture(scope="module")
def predictor(tiny_weights):
    return Predictor.from_pretrained(tiny_weights, device="cpu", precision="fp32", engine="torch")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (70, 53, 3), dtype=np.uint8)


def test_map_is_the_documented_one(predictor, image, tiny_weights):
    """Prepared, through the network, P1 resized as logits, sigmoid: written out in plain PyTorch."""
    network = load_network(tiny_weights).network
    with torch.inference_mode():
        p1 = network(prepare_image(image, 64)[None]).p1
        expected = F.interpolate(p1, size=(70, 53), mode="bilinear", align_corners=False).sigmoid()[0, 0]
    saliency = predictor(image)
    assert saliency.shape == (70, 53) and saliency.dtype == np.float32
    assert saliency.std() > 1e-3
    np.testing.assert_allclose(saliency, expected.numpy(), atol=1e-5)


def test_array_pillow_and_path_agree(predictor, image, tmp_path):
    write_png(tmp_path / "a.png", image)
    expected = predictor(image)
    for same in (Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(predictor(same), expected)


def test_pillow_image_is_turned_upright(image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(as_pixels(opened), np.rot90(image, -1))
    np.testing.assert_array_equal(as_pixels(tmp_path / "turned.png"), np.rot90(image, -1))


def test_batch_equals_one_by_one(predictor, image):
    images = [image, image[:20, :50], image[5:6, 5:6]]
    for together, alone in zip(predictor.batch(images), map(predictor, images), strict=True):
        assert together.shape == alone.shape
        np.testing.assert_allclose(together, alone, atol=1e-5)
    assert predictor.batch([]) == []


def test_size_can_be_chosen(tiny_weights, image):
    maps = [Predictor.from_pretrained(tiny_weights, "cpu", "fp32", size, "torch")(image) for size in (None, 64, 97)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 1e-4


def test_bf16_stays_near_fp32(tiny_weights, predictor, image):
    try:
        half = Predictor.from_pretrained(tiny_weights, "cpu", "bf16", engine="torch")
    except DeviceError as error:
        pytest.skip(str(error))
    assert half.precision == "bf16"
    difference = np.abs(half(image) - predictor(image))
    assert 0 < difference.mean() < 0.02


def test_bf16_stays_near_fp32_on_real_images(shared):
    """The shipped network on real images: the MAE against the masks moves by less than 0.001."""
    try:
        fast = Predictor.from_pretrained("lite", "cpu", "bf16", engine="torch")
    except DeviceError as error:
        pytest.skip(str(error))
    exact = Predictor.from_pretrained("lite", "cpu", "fp32", engine="torch")
    pairs = find_pairs(shared / "datasets/ECSSD-250")[::16]
    masks = [read_mask(pair.mask) / 255 for pair in pairs]
    maes = [
        np.mean([np.abs(saliency - mask).mean() for saliency, mask in zip(maps, masks, strict=True)])
        for maps in (predictor.batch([pair.image for pair in pairs]) for predictor in (fast, exact))
    ]
    assert maes[1] < 0.1
    assert 0 < abs(maes[0] - maes[1]) < 1e-3


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from([32, 224, 353]),
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    seed=st.integers(0, 2**31),
)
def test_restore_is_interpolate_then_sigmoid(side, height, width, seed):
    """`F.interpolate` in float64 to 1e-6; in float32 it differs more from itself (up to 4e-5)."""
    logits = np.random.default_rng(seed).normal(0, 5, (side, side)).astype(np.float32)
    expected = F.interpolate(
        torch.from_numpy(logits)[None, None].double(), (height, width), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(restore(logits, (height, width)), expected.sigmoid()[0, 0].numpy(), atol=1e-6)


def test_restore_of_extreme_logits():
    logits = np.array([[-1e4, -90, 0], [0, 90, 1e4], [-5, 5, 0]], np.float32)
    expected = torch.from_numpy(logits).sigmoid().numpy()
    np.testing.assert_allclose(restore(logits, (3, 3)), expected, atol=1e-6)


def test_to_8bit_rounds_and_never_stretches():
    values = np.linspace(0, 1, 9999, dtype=np.float32).reshape(99, 101)
    np.testing.assert_array_equal(to_8bit(values), np.rint(255 * values).astype(np.uint8))
    assert set(np.unique(to_8bit(np.full((4, 4), 0.2, np.float32)))) == {51}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 5, 3)),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(predictor, array):
    with pytest.raises(PredictorError, match=r"is no image; give \(height, width, 3\) uint8"):
        predictor(array)


@pytest.mark.parametrize("thing", [None, 3, [[0, 1]], b"bytes"])
def test_what_is_no_image_is_refused(predictor, thing):
    with pytest.raises(PredictorError, match=f"a {type(thing).__name__} is no image; give a path"):
        predictor(thing)


def test_errors_name_the_cause(tiny_weights, predictor, tmp_path):
    with pytest.raises(PredictorError, match="size 31: the network needs at least 32"):
        Predictor.from_pretrained(tiny_weights, "cpu", size=31)
    with pytest.raises(CheckpointError, match="weights 'nothing'"):
        Predictor.from_pretrained("nothing", "cpu")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageReadError, match=r"empty\.jpg"):
        predictor(tmp_path / "empty.jpg")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tiny_weights):
    with pytest.raises(DeviceError, match="finds no cuda device"):
        Predictor.from_pretrained(tiny_weights, device="cuda")


def test_flip_is_the_mean_with_the_mirror_image(tiny_weights):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    plain = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")
    both = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch", flip=True)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    one, other = (plain.logits([plain.prepare(image)])[0] for image in (image, mirrored))
    expected = (one + other[:, ::-1]) / 2
    assert np.abs(one - other[:, ::-1]).max() > 1e-4, "a network of its own would be symmetric already"
    np.testing.assert_allclose(both.logits([both.prepare(image)])[0], expected, atol=1e-5)
    np.testing.assert_allclose(both(mirrored)[:, ::-1], both(image), atol=1e-5)


def test_lists_and_generators_of_any_length(predictor, image):
    images = [image, image[:20, :50], image[5:6, 5:6], image[::-1], image[:, ::-1]]
    taken = []
    source = (taken.append(i) or one for i, one in enumerate(images))
    maps = predictor.maps(source, batch=2)
    first = next(maps)
    assert taken == [0, 1], "no more than a batch is read ahead"
    for lazy, alone in zip([first, *maps], map(predictor, images), strict=True):
        np.testing.assert_allclose(lazy, alone, atol=1e-5)
    assert list(predictor.maps([])) == []


def test_cutouts_are_those_of_the_maps(predictor, image):
    cutout = predictor.cutout(image)
    assert cutout.shape == (70, 53, 4) and (cutout == cut_out(image, to_8bit(predictor(image)))).all()
    styled = list(predictor.cutouts([image, image], Style.parse("white")))
    assert len(styled) == 2 and styled[0].shape == (70, 53, 3)


def test_pillow_in_and_pillow_out(predictor, image):
    opened = Image.fromarray(image)
    opened.info["dpi"] = (300, 300)
    assert predictor.map_image(opened).mode == "L" and predictor.map_image(opened).size == (53, 70)
    cutout = predictor.cutout_image(opened)
    assert cutout.mode == "RGBA" and cutout.size == (53, 70) and cutout.info["dpi"] == (300, 300)


def test_several_threads(predictor, image):
    expected = predictor(image)
    with ThreadPoolExecutor(8) as pool:
        for saliency in pool.map(predictor, [image] * 32):
            np.testing.assert_array_equal(saliency, expected)


def test_to_makes_a_predictor_on_another_device(predictor, image):
    moved = predictor.to("cpu")
    assert moved is not predictor and moved.device.type == "cpu"
    np.testing.assert_array_equal(moved(image), predictor(image))
    with pytest.raises(DeviceError, match="--device tpu: no such device"):
        predictor.to("tpu")
    with pytest.raises(PredictorError, match=r"to\(\): this predictor was made from an engine"):
        Predictor(predictor.engine).to("cpu")


def test_several_sizes_are_the_mean_of_their_logits(tiny_weights, image):
    both = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch", sizes=[64, 96])
    assert both.size == 96
    small, large = (Predictor.from_pretrained(tiny_weights, "cpu", "fp32", size, "torch") for size in (64, 96))
    logits = [torch.from_numpy(one.logits([one.prepare(image)])[0]) for one in (small, large)]
    grown = F.interpolate(logits[0][None, None], (96, 96), mode="bilinear", align_corners=False)[0, 0]
    expected = ((grown + logits[1]) / 2).numpy()
    np.testing.assert_allclose(both.logits([both.prepare(image)])[0], expected, atol=1e-5)
    np.testing.assert_allclose(both(image), restore(expected, (70, 53)), atol=1e-5)


def test_the_gain_makes_maps_more_decided(tiny_weights, predictor, image):
    strong = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch", refinement=Refinement(gain=2.0))
    plain, decided = predictor(image), strong(image)
    assert ((decided - 0.5) * (plain - 0.5) >= 0).all() and (np.abs(decided - 0.5) >= np.abs(plain - 0.5)).all()
