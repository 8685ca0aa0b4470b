"""Maps on disk: what is read, what is refused and with which words, and how maps pair with masks."""

import numpy as np
import pytest
from PIL import Image

from data.layouts import Pair
from evaluation.map_files import MapError, list_maps, pair_maps, read_map

GREYS = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(folder, name, pixels):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_grey_bytes_come_back_as_they_are(tmp_path, suffix):
    np.testing.assert_array_equal(read_map(saved(tmp_path, f"a{suffix}", GREYS)), GREYS)


def test_grey_saved_as_rgb_rgba_or_palette(tmp_path):
    rgb = np.repeat(GREYS[..., None], 3, axis=2)
    opaque = np.dstack([rgb, np.full_like(GREYS, 255)])
    palette = Image.fromarray(GREYS).convert("P")
    palette.save(tmp_path / "p.png")
    for path in (saved(tmp_path, "rgb.png", rgb), saved(tmp_path, "rgba.png", opaque), tmp_path / "p.png"):
        np.testing.assert_array_equal(read_map(path), GREYS)


def test_sixteen_bits_are_scaled_by_257(tmp_path):
    values = np.array([[0, 128, 129], [257, 65535, 32896]], np.uint16)
    expected = [[0, 0, 1], [1, 255, 128]]
    np.testing.assert_array_equal(read_map(saved(tmp_path, "a.png", values)), expected)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_map(tmp_path / "a.npy"), expected)
    Image.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes()).save(tmp_path / "high_byte_first.tif")
    np.testing.assert_array_equal(read_map(tmp_path / "high_byte_first.tif"), expected)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_become_the_bytes_of_a_png(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.array([[0, 0.5, 1]], kind)[..., None])
    np.testing.assert_array_equal(read_map(tmp_path / "a.npy"), [[0, 128, 255]])


def test_float_tiff_and_one_bit(tmp_path):
    np.testing.assert_array_equal(read_map(saved(tmp_path, "a.tif", GREYS.astype(np.float32) / 255)), GREYS)
    Image.fromarray(GREYS > 90).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_map(tmp_path / "b.png"), np.where(GREYS > 90, 255, 0))


def test_refusals_name_the_file_and_the_cure(tmp_path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[1, 2, 0] = 9
    clear = np.full((4, 4, 4), 200, np.uint8)
    arrays = {
        "logits": np.array([[-3.0, 4.5]]),
        "not_a_number": np.array([[np.nan, 0.5]]),
        "integers": np.array([[0, 255]]),
        "batch": np.zeros((2, 4, 4), np.float32),
        "nothing": np.zeros((0, 4), np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    refused = {
        saved(tmp_path, "colours.png", colours): r"a map in colours \(RGB\), not in grey. Save one channel",
        saved(tmp_path, "clear.png", clear): "a map with transparency",
        tmp_path / "logits.npy": r"floats from -3 to 4.5, not in 0 to 1. Apply the sigmoid, or divide by 255, first",
        tmp_path / "not_a_number.npy": "holds NaN or infinite values",
        tmp_path / "integers.npy": "int64 values from 0 to 255 are no map. Save 8 bits",
        tmp_path / "batch.npy": r"shape \(height, width\), not \(2, 4, 4\)",
        tmp_path / "nothing.npy": r"not \(0, 4\)",
        tmp_path / "objects.npy": "object values are no map",
    }
    for path, words in refused.items():
        with pytest.raises(MapError, match=words) as told:
            read_map(path)
        assert str(path) in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("keep", [0, 40, 200])
def test_truncated_and_empty_files(tmp_path, keep):
    path = saved(tmp_path, "a.png", np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MapError, match=r"a\.png: cannot be read as a map .* Write it again"):
        read_map(path)


def test_names_are_paths_without_suffix(tmp_path):
    for name in ("b.png", "deep/er/a.png", "x.y.png"):
        saved(tmp_path, name, GREYS)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no map")
    assert list(list_maps(tmp_path)) == ["b", "deep/er/a", "x.y"]


def test_folders_without_maps(tmp_path):
    with pytest.raises(MapError, match="no such folder of maps"):
        list_maps(tmp_path / "absent")
    with pytest.raises(MapError, match="no maps found; it is empty"):
        list_maps(tmp_path)
    (tmp_path / "a.mat").write_bytes(b"x")
    with pytest.raises(MapError, match=r"no maps found; it holds only \.mat files"):
        list_maps(tmp_path)


def test_doubled_maps(tmp_path):
    saved(tmp_path, "a.png", GREYS)
    saved(tmp_path, "a.bmp", GREYS)
    with pytest.raises(MapError, match=r"1 doubled map: a\.bmp and a\.png. Keep one file of each name"):
        list_maps(tmp_path)


def test_missing_and_extra_maps_are_listed_together(tmp_path):
    pairs = [Pair(f"{i:02}", tmp_path / f"{i:02}.jpg", tmp_path / f"{i:02}.png") for i in range(20)]
    maps = tmp_path / "maps"
    for name in ("05.png", "06.png", "stray.png"):
        saved(maps, name, GREYS)
    with pytest.raises(MapError) as told:
        pair_maps(pairs, maps)
    assert "3 maps for 20 masks; 18 missing maps: 00, 01, 02, 03, 04, 07" in str(told.value)
    assert "and 8 more; 1 extra map: stray." in str(told.value)


def test_pairs_follow_the_benchmark(tmp_path):
    pairs = [Pair(name, tmp_path / f"{name}.jpg", tmp_path / f"{name}.png") for name in ("b", "a")]
    for name in ("a", "b"):
        saved(tmp_path / "maps", f"{name}.bmp", GREYS)
    found = pair_maps(pairs, tmp_path / "maps")
    assert [(pair.name, pair.map_path.name, pair.mask_path.name) for pair in found] == [
        ("b", "b.bmp", "b.png"),
        ("a", "a.bmp", "a.png"),
    ]
