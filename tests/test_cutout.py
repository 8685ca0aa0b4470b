"""cutout.py from end to end: without PyTorch, by file and by pipe, beside test.py, and on what it cannot do."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import cutout
import export
import test as program
from data.image_io import read_image
from inference import compositing
from inference.cutouts import Style
from inference.onnx_maps import OnnxMaps
from inference.weights import load_network

SAMPLE = "data/samples/cat.jpg"
HEAVY = ("torch", "torchvision", "timm", "safetensors", "matplotlib", "scipy", "jsonargparse")


@pytest.fixture
def folder(tmp_path, root):
    """A folder with a small image, one below it, and nothing else."""
    image = Image.open(root / SAMPLE)
    image.thumbnail((120, 120))
    (tmp_path / "in" / "sub").mkdir(parents=True)
    image.save(tmp_path / "in" / "a.png")
    image.crop((10, 10, 80, 60)).save(tmp_path / "in" / "sub" / "b.jpg", quality=95)
    return tmp_path / "in"


def run(*words, give=b""):
    """The program in a process of its own."""
    command = [sys.executable, str(cutout.WEIGHTS.parent / "cutout.py"), *map(str, words)]
    return subprocess.run(command, input=give, capture_output=True, check=False)


def call(*words):
    return cutout.main([str(word) for word in words])


def pixels(path):
    return np.asarray(Image.open(path))


def test_neither_pytorch_nor_what_only_other_programs_need_is_loaded(folder, root):
    script = (
        "import sys, json, cutout; code = cutout.main(sys.argv[1:]); "
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    command = [sys.executable, "-c", script, str(folder / "a.png"), str(folder.parent / "out.png")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    code, loaded = json.loads(done.stdout)
    assert code == 0 and {"onnxruntime", "cv2"} <= set(loaded)
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("package", ["onnxruntime", "cv2"])
def test_a_package_that_is_not_installed_is_one_line(folder, root, package):
    absent = f"import sys; sys.modules['{package}'] = None; "
    code = absent + "import runpy; runpy.run_path('cutout.py', run_name='__main__')"
    command = [sys.executable, "-c", code, str(folder / "a.png")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"needs the package {package}, which is not installed. Run pip install -r requirements-cutout" in done.stderr
    assert not (folder / "a.cutout.png").exists()


def test_help_loads_neither_opencv_nor_onnx_runtime(root):
    script = (
        "import sys, cutout\ntry: cutout.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('cv2', 'numpy', 'onnxruntime', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert "--type" in done.stdout and done.stdout.endswith("[]\n")


def test_the_pixels_are_those_of_test_py_with_onnx_runtime(tmp_path, root):
    pytest.importorskip("onnxscript", reason="needs onnxscript (requirements-deploy.txt)")
    images = tmp_path / "in"
    images.mkdir()
    for name in ("cat", "flower"):
        image = Image.open(root / f"data/samples/{name}.jpg")
        image.thumbnail((300, 300))
        image.save(images / f"{name}.png")
    out = tmp_path / "out"
    assert program.main(["--images", str(images), "--engine", "onnxruntime", "--out", str(out), "--cutout"]) == 0
    assert call(images, tmp_path / "ours") == 0
    assert call(images, tmp_path / "maps", "--type", "map") == 0
    for name in ("cat.png", "flower.png"):
        np.testing.assert_array_equal(pixels(tmp_path / "maps" / name), pixels(out / "maps" / name))
        np.testing.assert_array_equal(pixels(tmp_path / "ours" / name), pixels(out / "cutout" / name))


def test_pipe_and_file_give_the_same_bytes(folder):
    done = run("-", "-", give=(folder / "a.png").read_bytes())
    assert done.returncode == 0 and done.stderr == b""
    assert call(folder / "a.png", folder.parent / "a.png") == 0
    assert done.stdout == (folder.parent / "a.png").read_bytes()


def test_without_out_the_cutout_lies_beside_the_image(folder):
    assert call(folder / "sub" / "b.jpg") == 0
    image = Image.open(folder / "sub" / "b.cutout.png")
    assert image.mode == "RGBA" and image.size == (70, 50)


@pytest.mark.parametrize(("out", "expected"), [("made", "made"), (None, "in.cutout")])
def test_a_folder_is_mirrored(folder, out, expected):
    assert call(folder, *([folder.parent / out] if out else [])) == 0
    made = folder.parent / expected
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*.png"))
    assert names == ["a.png", "sub/b.png"]
    assert sorted(path.name for path in folder.rglob("*.*")) == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF"), (".tiff", "TIFF"), (".PNG", "PNG")]
)
def test_the_suffix_decides_the_format(folder, tmp_path, suffix, kind):
    assert call(folder / "a.png", tmp_path / f"x{suffix}") == 0
    assert call(folder / "a.png", tmp_path / "x.png") == 0
    image = Image.open(tmp_path / f"x{suffix}")
    assert image.format == kind and image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), pixels(tmp_path / "x.png"))


def test_jpeg_is_written_where_there_is_a_background(folder, tmp_path, capsys):
    assert call(folder / "a.png", tmp_path / "x.jpg", "--type", "white") == 0
    assert Image.open(tmp_path / "x.jpg").format == "JPEG"
    done = run(folder / "a.png", tmp_path / "y.jpg")
    assert done.returncode == 2 and b"no transparency" in done.stderr and not (tmp_path / "y.jpg").exists()


@pytest.mark.parametrize("kind", ["rgba", "map", "white", "green", "#ff8000", "blur", "overlay", "FILE"])
def test_every_type_gives_an_image_of_the_same_size(folder, tmp_path, kind):
    background = tmp_path / "beach.png"
    Image.new("RGB", (30, 90), (10, 20, 30)).save(background)
    assert call(folder / "a.png", tmp_path / "x.png", "--type", str(background) if kind == "FILE" else kind) == 0
    expected = {"rgba": "RGBA", "map": "L"}.get(kind, "RGB")
    image = Image.open(tmp_path / "x.png")
    assert image.mode == expected and image.size == Image.open(folder / "a.png").size
    plain = {"white": (255,) * 3, "green": (0, 255, 0), "#ff8000": (255, 128, 0), "FILE": (10, 20, 30)}
    if kind in plain:
        assert call(folder / "a.png", tmp_path / "map.png", "--type", "map") == 0
        saliency, composed = pixels(tmp_path / "map.png"), np.asarray(image).astype(int)
        assert (saliency == 0).any() and (composed[saliency == 0] == plain[kind]).all()
        assert (np.abs(composed - plain[kind]).max(axis=2) <= saliency.astype(int) + 1).all()


@pytest.mark.parametrize("despilled", [True, False])
@pytest.mark.parametrize("kind", ["white", "green", "#123456", "blur"])
def test_a_full_map_gives_the_image_and_an_empty_one_the_background(kind, despilled):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    style = Style.parse(kind, despilled)
    np.testing.assert_array_equal(style.compose(image, np.full((40, 50), 255, np.uint8)), image)
    empty = style.compose(image, np.zeros((40, 50), np.uint8))
    plain = {"white": (255,) * 3, "green": (0, 255, 0), "#123456": (0x12, 0x34, 0x56)}
    if kind in plain:
        np.testing.assert_array_equal(empty, np.broadcast_to(np.uint8(plain[kind]), image.shape))
    else:
        blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 50 * compositing.BLURRED)
        np.testing.assert_allclose(empty, blurred, atol=0.51)  # rounded to whole values


@pytest.mark.parametrize("despilled", [True, False])
def test_white_on_white_is_white(despilled):
    white = np.full((40, 50, 3), 255, np.uint8)
    saliency = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert Style.parse("white", despilled).compose(white, saliency).min() == 255
    assert Style.parse("rgba", despilled).compose(white, saliency)[..., :3].min() == 255


def test_profile_and_resolution_are_kept_and_the_orientation_is_applied(tmp_path, folder):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "a.png").save(tmp_path / "t.jpg", icc_profile=profile, dpi=(300, 300), exif=exif.tobytes())
    stored = Image.open(tmp_path / "t.jpg").size
    for suffix in (".png", ".tif", ".webp"):
        assert call(tmp_path / "t.jpg", tmp_path / f"x{suffix}") == 0
        image = Image.open(tmp_path / f"x{suffix}")
        assert image.size == stored[::-1] and image.info.get("icc_profile") == profile
        assert image.getexif().get(0x0112, 1) == 1
        exif = image.getexif()
        dpi = (exif[0x011A], exif[0x011B]) if suffix == ".webp" else image.info["dpi"]
        assert [round(float(value)) for value in dpi] == [300, 300]


def test_crop_takes_a_margin_or_none(folder, tmp_path):
    for name, words in {"none": (), "tight": ("--crop=0",), "usual": ("--crop",), "wide": ("--crop", "0.3")}.items():
        assert call(folder / "a.png", tmp_path / f"{name}.png", *words) == 0
    width = {name: Image.open(tmp_path / f"{name}.png").width for name in ("none", "tight", "usual", "wide")}
    assert width["tight"] <= width["usual"] <= width["wide"] <= width["none"]
    assert width["tight"] < width["none"]
    assert cutout.parse(["--crop", "a.png"]).image.name == "a.png"


def test_despill_changes_the_rim_alone(folder, tmp_path):
    assert call(folder / "a.png", tmp_path / "x.png") == 0
    assert call(folder / "a.png", tmp_path / "y.png", "--no-despill") == 0
    with_, without = pixels(tmp_path / "x.png"), pixels(tmp_path / "y.png")
    np.testing.assert_array_equal(without[..., :3], pixels(folder / "a.png"))
    np.testing.assert_array_equal(with_[..., 3], without[..., 3])
    differs = (with_ != without).any(axis=2)
    assert differs.any() and not differs[with_[..., 3] == 255].any()


def test_out_may_follow_the_options(folder, tmp_path):
    places = [tmp_path / f"{i}.png" for i in range(4)]
    for words in (
        (folder / "a.png", places[0], "--type", "white", "--crop"),
        (folder / "a.png", "--type", "white", "--crop", places[1]),
        ("--type", "white", "--crop", 0.02, folder / "a.png", places[2]),
        (folder / "a.png", "--crop", "2e-2", "--type", "white", places[3]),
    ):
        assert call(*words) == 0
    assert len({place.read_bytes() for place in places}) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("none.jpg",), "none.jpg: no such file"),
        (("in/a.png", "x.gif"), "suffix '.gif'"),
        (("in/a.png", "x.png", "--type", "ultraviolet"), "ultraviolet"),
        (("in/a.png", "x.png", "--crop", "7"), "--crop 7"),
        (("in/a.png", "x.png", "--crop", "-1"), "--crop -1"),
        (("in/a.png", "x.png", "--model", "huge"), "--model huge"),
        (("in/a.png", "x.png", "--model", "in/a.png"), "cannot read it"),
        (("in/a.png", "in/a.png"), "a.png"),
        (("in", "in/out"), "in"),
        (("in", "x.png"), "is a folder"),
        (("in", "-"), "is a folder"),
        (("in/a.png", "x.png", "--nonsense"), "--nonsense"),
        ((), "IN"),
    ],
)
def test_what_cannot_be_met_is_one_line_and_exit_code_2(folder, monkeypatch, capsys, words, says):
    monkeypatch.chdir(folder.parent)
    before = {path: path.read_bytes() for path in folder.parent.rglob("*.*") if path.is_file()}
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(cutout.exit_on_user_error(lambda: call(*words)))
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert told.count("\n") == 1 and len(told) < 300 and says in told
    assert before == {path: path.read_bytes() for path in folder.parent.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("page.jpg", b"<html>not found</html>"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02"),
        ("line\nbreak.jpg", b"\xff\xd8\xff\xe0"),
    ],
)
def test_a_hostile_image_fails_alone(folder, capsys, name, content):
    (folder / name).write_bytes(content)
    assert call(folder / name, folder.parent / "x.png") == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and len(told) < 300
    assert not (folder.parent / "x.png").exists()
    assert call(folder, folder.parent / "all") == 1
    assert len(list((folder.parent / "all").rglob("*.png"))) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")] == [told.strip()]


def test_garbage_by_pipe_gives_one_line_and_no_output():
    done = run("-", "-", give=b"garbage")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"error: standard input: no image (7 bytes")


def test_lite_onnx_is_what_export_makes_of_lite_safetensors(tmp_path, root):
    pytest.importorskip("onnxscript", reason="needs onnxscript (requirements-deploy.txt)")
    path, made = root / "weights/lite.onnx", tmp_path / "lite.onnx"
    assert export.main(["--form", "network", "--out", str(made), "--images", str(root / SAMPLE)]) == 0
    shipped, fresh = OnnxMaps(path), OnnxMaps(made)
    assert shipped.record["weights"] == fresh.record["weights"]
    plain = 4 * sum(parameter.numel() for parameter in load_network("lite").network.parameters())
    assert path.stat().st_size < min(10e6, 0.6 * plain)
    assert b"site-packages" not in path.read_bytes()
    for name in ("cat", "flower", "rocket"):
        image = read_image(root / f"data/samples/{name}.jpg")
        np.testing.assert_allclose(shipped(image), fresh(image), atol=1e-6)
