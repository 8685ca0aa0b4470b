"""The page of web/ in a real browser: what it cuts out, what it asks for, and what it does with hostile images."""

import base64
import hashlib
import io
import shutil
import time

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from inference.onnx_maps import OnnxMaps
from inference.saliency import to_8bit
from tests.browser import browser, served
from web import build

GIVE = """
const [name, content, how] = arguments;
const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], name, { type: name.endsWith(".png") ? "image/png" : "image/jpeg" }));
document.getElementById("status").textContent = "";
if (how === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: files, bubbles: true }));
else {
  const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(drop);
}
"""
SETTLED = "return document.body.getAttribute('aria-busy') === 'false' && document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    if not build.RUNTIME.is_dir():
        pytest.skip("needs the npm packages of web/ (npm ci)")
    if not all(map(shutil.which, ("chromium", "chromedriver"))):
        pytest.skip("needs chromium and chromium-driver")
    folder = tmp_path_factory.mktemp("page") / "dist"
    assert build.main(["--out", str(folder)]) == 0
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def window(address, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile"), (1200, 900)) as opened:
        opened.open(address)
        yield opened


@pytest.fixture(scope="module")
def maps(root):
    return OnnxMaps(root / "weights/lite.onnx", threads=1)


def give(window, name, content, how="drop"):
    """Drops or pastes a file; returns the status line once the page is done with it."""
    window.run(GIVE, name, base64.b64encode(content).decode(), how)
    return window.wait_for(SETTLED, 60)


def download(window, folder, name):
    window.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    window.run("document.getElementById('download').click()")
    end = time.monotonic() + 20
    while not (folder / name).is_file():
        assert time.monotonic() < end, f"no {name} among {list(folder.iterdir())}"
        time.sleep(0.05)
    return cv2.cvtColor(cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def choose(window, background):
    window.run("document.querySelector(`input[value=${arguments[0]}]`).click()", background)


def scene(height, width):
    """A JPEG of a red disc on green, without texture, so that decoders agree."""
    image = np.full((height, width, 3), (40, 120, 60), np.uint8)
    cv2.circle(image, (width // 2, height // 2), min(height, width) // 4, (220, 40, 30), -1, cv2.LINE_AA)
    return image


def encoded(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize(("how", "sample"), [("drop", "flower.jpg"), ("paste", "cat.jpg")])
def test_the_downloaded_alpha_is_the_map_of_python(window, maps, root, tmp_path, how, sample):
    path = root / "data/samples" / sample
    assert "done in" in give(window, sample, path.read_bytes(), how)
    choose(window, "transparent")
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = to_8bit(maps(image))
    cutout = download(window, tmp_path, f"{path.stem}.cutout.png")
    assert cutout.shape == (*expected.shape, 4)
    assert np.abs(cutout[..., 3].astype(int) - expected).mean() <= 1
    inside = expected == 255
    assert inside.any() and np.abs(cutout[..., :3].astype(int) - image)[inside].mean() <= 2


def test_backgrounds_are_behind_the_object(window, tmp_path):
    image = scene(120, 160)
    assert "done in" in give(window, "disc.png", encoded(image))
    corner = {}
    for background in ("white", "green", "colour", "blur", "transparent"):
        choose(window, background)
        (tmp_path / background).mkdir()
        corner[background] = download(window, tmp_path / background, "disc.cutout.png")[2, 2]
    assert corner["white"].min() >= 250 and corner["transparent"][3] <= 5
    assert np.abs(corner["green"].astype(int) - (0, 255, 0, 255)).max() <= 5
    assert np.abs(corner["colour"].astype(int) - (0x3B, 0x82, 0xF6, 255)).max() <= 5
    assert np.abs(corner["blur"].astype(int) - (40, 120, 60, 255)).max() <= 8


def test_the_orientation_of_exif_is_applied(window, maps, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(scene(90, 150), "JPEG", quality=95, exif=exif.tobytes())
    give(window, "turned.jpg", content)
    choose(window, "transparent")
    assert download(window, tmp_path, "turned.cutout.png").shape[:2] == (150, 90)


def test_the_canvas_limit_is_named_when_met(window):
    told = give(window, "long.png", encoded(np.zeros((8, 70000, 3), np.uint8)))
    assert "70000 x 8 pixels exceed this browser's canvas limit; the cutout has" in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("page.jpg", b"<html><script>alert(1)</script></html>"),
        ("cut.png", encoded(scene(64, 64))[:80]),
        ("lies.png", encoded(scene(8, 8))[:16] + b"\x7f\xff\xff\xff" * 2 + encoded(scene(8, 8))[24:]),
        ("<img src=x onerror=alert(1)>.jpg", b"\xff\xd8\xff\xe0nothing"),
    ],
)
def test_a_hostile_image_gives_one_line_and_the_page_works_on(window, name, content):
    told = give(window, name, content)
    assert told.startswith(f"{name}: ") and "\n" not in told and len(told) < 300 and "done" not in told
    assert window.run("return document.getElementById('download').disabled") is True
    assert "done in" in give(window, "next.png", encoded(scene(40, 50)))


def test_the_page_is_usable_by_keyboard_and_named_for_screen_readers(window):
    give(window, "disc.png", encoded(scene(60, 80)))
    window.run("document.getElementById('split').focus()")
    before = window.run("return Number(document.getElementById('split').value)")
    window.press("right", "right")
    assert window.run("return Number(document.getElementById('split').value)") == before + 2
    assert window.run("return getComputedStyle(document.getElementById('stage')).getPropertyValue('--split')") == "52%"
    window.run("document.querySelector('input[value=white]').focus()")
    window.press("right")
    assert window.run("return document.activeElement.value") == "green"
    nameless = """return [...document.querySelectorAll('button, input, canvas, img, progress')].filter((one) =>
        one.offsetParent && !(one.labels?.length || one.textContent.trim() || one.ariaLabel || one.alt !== undefined))
        .map((one) => one.outerHTML)"""
    assert window.run(nameless) == []


@pytest.mark.parametrize("width", [320, 360, 810, 1400])
def test_the_page_fits_a_phone_and_a_desktop(window, width):
    window.devtools("Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=1, mobile=True)
    if width == 320:
        give(window, "disc.png", encoded(scene(90, 120)))
    try:
        assert window.run("return document.documentElement.scrollWidth") <= width
        small = """return [...document.querySelectorAll('button, .choices label')].filter((one) => one.offsetParent
            && one.getBoundingClientRect().height < 36).map((one) => one.outerHTML)"""
        assert window.run(small) == []
        # The words of a choice end before its frame, with some room for wider fonts.
        tight = """return [...document.querySelectorAll('.choices label')].filter((one) => {
            const words = document.createRange();
            words.selectNodeContents(one);
            return words.getBoundingClientRect().right > one.getBoundingClientRect().right - 9;
        }).map((one) => one.textContent)"""
        assert window.run(tight) == []
    finally:
        window.devtools("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("count", [0, 1, 55, 56, 63, 64, 1000])
def test_both_ways_to_a_checksum_are_right(window, count):
    script = """return (async () => {
        const { sha256, computed } = await import("./sha256.js");
        const bytes = Uint8Array.from({ length: arguments[0] }, (_, i) => (7 * i) & 255);
        return [await sha256(bytes), computed(bytes)];
    })()""".replace("arguments[0]", str(count))
    expected = hashlib.sha256(bytes((7 * i) & 255 for i in range(count))).hexdigest()
    assert window.run(script) == [expected, expected]


def test_the_worker_ends_and_starts_again_without_growing_memory(window):
    script = """return (async () => {
        const { Engine } = await import("./engine.js");
        globalThis.engine ??= new Engine();
        await globalThis.engine.open();
        globalThis.engine.end();
        return globalThis.engine.backend;
    })()"""
    assert {window.run(script) for _ in range(3)} == {"WebAssembly"}
    before = settled_memory(window)
    for _ in range(20):  # a call each: a call may take 30 s at most, and machines are busy
        window.run(script)
    assert settled_memory(window) - before < 40e6  # one network takes about 60 MB


def settled_memory(window):
    """Bytes that the browser's page processes hold, after a collection."""
    for _ in range(3):
        window.devtools("HeapProfiler.collectGarbage")
        time.sleep(0.2)
    processes = [
        process
        for process in psutil.Process().children(recursive=True)
        if "--type=renderer" in " ".join(process.cmdline())
    ]
    assert processes
    return sum(process.memory_info().rss for process in processes)


def test_stop_ends_the_work_and_the_next_image_is_cut_out(window, root):
    flower = base64.b64encode((root / "data/samples/flower.jpg").read_bytes()).decode()
    window.run(GIVE + "document.getElementById('stop').click()", "a.jpg", flower, "drop")
    assert window.wait_for(SETTLED, 30) == "Stopped."
    assert "done in" in give(window, "next.png", encoded(scene(40, 50)))


def test_an_end_while_the_files_are_fetched_stops_too(window):
    script = """return (async () => {
        const { Engine } = await import("./engine.js");
        const engine = new Engine();
        const opening = engine.open();
        engine.end();
        try { await opening; return "opened"; } catch (error) { return error.message; }
    })()"""
    assert window.run(script) == "stopped"


def test_webassembly_takes_over_where_webgpu_fails(window):
    script = """return (async () => {
        const { Engine } = await import("./engine.js");
        Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => ({}) }, configurable: true });
        const engine = new Engine();
        try { await engine.open(); return engine.backend; } finally { engine.end(); delete navigator.gpu; }
    })()"""
    assert window.run(script) == "WebAssembly"
    loaded = "return performance.getEntriesByType('resource').map((one) => one.name)"
    assert [url for url in window.run(loaded) if url.endswith(".asyncify.wasm")]


def test_a_changed_network_is_refused(address, window, tmp_path):
    script = """return (async () => {
        const { Engine } = await import("./engine.js");
        const whole = globalThis.fetch;
        globalThis.fetch = async (...request) => {
            const answer = await whole(...request);
            if (!String(request[0]).endsWith("lite.onnx")) return answer;
            const content = new Uint8Array(await answer.arrayBuffer());
            content[5000000] ^= 1;
            return new Response(content);
        };
        try { await new Engine().open(); return "opened"; } catch (error) { return error.message; }
        finally { globalThis.fetch = whole; }
    })()"""
    assert window.run(script).startswith("lite.onnx has SHA-256 ")


def test_all_requests_go_to_the_page_s_own_server_and_nothing_is_logged(address, window):
    # The browser's own pages, such as that of a new tab, have schemes of their own.
    asked = [url for url in window.requests() if url.startswith(("http:", "https:", "ws:", "wss:"))]
    assert asked and all(url.startswith(address) for url in asked), asked
    assert window.errors() == []


def test_the_build_needs_its_packages_and_spares_other_folders(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    if build.RUNTIME.is_dir():
        assert build.main(["--out", str(tmp_path)]) == 2
    monkeypatch.setattr(build, "RUNTIME", tmp_path / "none")
    assert build.main(["--out", str(tmp_path / "dist")]) == 2
    assert "npm ci" in capsys.readouterr().err and (tmp_path / "mine.txt").is_file()
