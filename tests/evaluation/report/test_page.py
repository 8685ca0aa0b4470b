"""The page: what is in it, and how it works in a real browser."""

import base64
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from evaluation.methods import evaluate, gather
from evaluation.report.page import choose, write_page
from tests.browser import browser

METHODS = ("good", "poor", "again")


@pytest.fixture(scope="module")
def evaluated(bench):
    maps = {name: bench / name.replace("again", "good") for name in METHODS}
    return evaluate(gather({"ECSSD-8": bench / "data", "mine": bench / "data"}, maps), workers=1, resamples=50)


@pytest.fixture(scope="module")
def page(evaluated, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(*evaluated, 2, path)
    return path


def data_of(path):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_it_asks_nothing_of_a_network(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    links = re.findall(r"""(?:src|href|action)="([^"]*)"|url\(([^)]*)\)""", text)
    assert all(link.startswith(("#", "data:")) for pair in links for link in pair if link)
    outside = set(re.findall(r"https?://[\w./-]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not addresses


def test_names_cannot_break_out(bench, tmp_path):
    name = '</script><b onclick="x">&'
    evil = evaluate(gather({"<i>": bench / "data"}, {name: bench / "good"}), workers=1, resamples=0)
    write_page(*evil, 1, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "<b onclick" not in text and "<i>" not in text
    assert data_of(tmp_path / "index.html")["dataSets"][0]["methods"] == [name]


def test_every_chosen_image_is_there_once_with_its_kinds(page, evaluated):
    chosen = choose(evaluated[0], 2)
    places = [(choice.data_set, choice.place) for choice in chosen]
    assert len(set(places)) == len(places)
    assert {kind for choice in chosen for kind in choice.kinds} == {"best", "median", "worst", "disagreement"}
    for number, found in enumerate(data_of(page)["dataSets"]):
        pairs = evaluated[0][number].data_set.targets
        expected = {pairs[choice.place].name: list(choice.kinds) for choice in chosen if choice.data_set == number}
        assert {image["name"]: image["kinds"] for image in found["images"]} == expected


def test_images_are_those_of_the_data_set(page, evaluated):
    image = data_of(page)["dataSets"][0]["images"][0]
    each = evaluated[0][0]
    place = [pair.name for pair in each.data_set.targets].index(image["name"])
    mask = cv2.imread(str(each.data_set.targets[place].mask), 0)
    kind, encoded = image["mask"].split(";base64,")
    assert kind == "data:image/webp"
    found = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), 0)
    assert np.abs(found.astype(int) - mask).mean() < 6
    assert image["scores"][1][0] == each.scores["poor"].rows[place].measures["mae"]


def test_the_budget_limits_the_images_and_the_page_says_so(evaluated, tmp_path):
    write_page(*evaluated, 4, tmp_path / "all.html")
    whole = data_of(tmp_path / "all.html")
    sizes = [sum(map(len, [p["image"], p["mask"], *p["maps"]])) for d in whole["dataSets"] for p in d["images"]]
    budget = sum(sizes) // 2
    write_page(*evaluated, 4, tmp_path / "half.html", budget=budget)
    half = data_of(tmp_path / "half.html")
    counts = [[len(d["images"]) for d in data["dataSets"]] for data in (whole, half)]
    assert 0 < sum(counts[1]) < sum(counts[0])
    assert abs(counts[1][0] - counts[1][1]) <= 4  # data sets take turns
    assert f"{sum(counts[0]) - sum(counts[1])} more were left out" in (tmp_path / "half.html").read_text()
    assert "left out" not in (tmp_path / "all.html").read_text()


@pytest.fixture(scope="module")
def window(page, tmp_path_factory):
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} on the PATH (Debian: apt-get install chromium chromium-driver)")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def view(window, page):
    """The freshly loaded page, its first image drawn."""
    window.open(page)
    window.wait_for("return document.getElementById('canvas').dataset.drawn")
    yield window
    assert window.errors() == []


def drawn(view, words):
    """Waits until the viewer shows a image whose description ends so."""
    return view.wait_for(
        f"const d = document.getElementById('canvas').dataset.drawn; return d.endsWith({json.dumps(words)}) && d"
    )


def column(view, table, number):
    rows = "[...document.querySelectorAll(arguments[0] + ' tbody tr')]"
    script = f"return {rows}.map(row => row.cells[arguments[1]].dataset.value)"
    return view.run(script, table, number)


@pytest.mark.parametrize(("number", "lower_is_better"), [(1, True), (4, False)])
def test_a_heading_sorts_the_best_first_then_turns(view, number, lower_is_better):
    click = f"document.querySelectorAll('#data-0 thead button')[{number}].click()"
    sort = f"return document.querySelectorAll('#data-0 thead th')[{number}].getAttribute('aria-sort')"
    view.run(click)
    known = [float(value) for value in column(view, "#data-0", number) if value]
    assert known == sorted(known, reverse=not lower_is_better)
    assert view.run(sort) == ("ascending" if lower_is_better else "descending")
    view.run(click)
    values = column(view, "#data-0", number)
    known = [float(value) for value in values if value]
    assert known == sorted(known, reverse=lower_is_better)
    assert "" not in values[: len(known)]  # empty cells stay at the end


def test_headings_sort_from_the_keyboard(view):
    view.run("document.querySelector('#data-0 thead button').focus()")
    view.press("enter")
    names = column(view, "#data-0", 0)
    assert names == sorted(names, key=str.casefold)


def test_keys_change_image_method_and_view(view):
    view.run("document.getElementById('canvas').focus()")
    drawn(view, "good / overlay")
    first = view.run("return document.getElementById('canvas').dataset.drawn").split(" / ")[1]
    view.press("right")
    view.wait_for(f"return !document.getElementById('canvas').dataset.drawn.includes({json.dumps(first)})")
    view.press("left")
    drawn(view, f"{first} / good / overlay")
    view.press("down")
    drawn(view, f"{first} / poor / overlay")
    for key, layer in zip("12345", ("image", "mask", "map", "overlay", "errors"), strict=True):
        view.press(key)
        drawn(view, f"{first} / poor / {layer}")
    assert view.run("return document.activeElement.id") == "canvas"
    caption = view.run("return document.getElementById('caption').textContent")
    assert caption == f"{first}: missed (blue) and wrongly found (orange) by poor"


def pixels(view):
    """The canvas as (H, W, 3)."""
    found = view.run(
        "const c = document.getElementById('canvas');"
        "return [c.height, c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    )
    return np.array(found[2]).reshape(found[0], found[1], 4)[..., :3]


def test_views_show_what_they_say(view, evaluated):
    each = evaluated[0][0]
    name = view.run("return document.getElementById('canvas').dataset.drawn").split(" / ")[1]
    place = [pair.name for pair in each.data_set.targets].index(name)
    mask = cv2.imread(str(each.data_set.targets[place].mask), 0)
    view.run("document.getElementById('canvas').focus()")
    shown = {}
    for key, layer in zip("12345", ("image", "mask", "map", "overlay", "errors"), strict=True):
        view.press(key)
        drawn(view, f"good / {layer}")
        shown[layer] = pixels(view).astype(float)
    image = cv2.imread(str(each.data_set.targets[place].image))[..., ::-1]
    assert np.abs(shown["image"] - image).mean() < 8
    assert np.abs(shown["mask"][..., 0] - mask).mean() < 8
    share = shown["map"][..., :1] / 255
    dimmed = 0.35 * (shown["image"] @ [0.299, 0.587, 0.114])[..., None]
    np.testing.assert_allclose(shown["overlay"], share * shown["image"] + (1 - share) * dimmed, atol=2)
    wrong = (shown["map"][..., :1] - shown["mask"][..., :1]) / 255
    colour = np.where(wrong > 0, [230, 159, 0], [0, 114, 178])
    grey = dimmed / 0.35
    np.testing.assert_allclose(shown["errors"], abs(wrong) * colour + (1 - abs(wrong)) * grey, atol=2)


def test_choosing_a_data_set_a_kind_and_a_map(view):
    view.run("const s = document.getElementById('set'); s.value = 1; s.dispatchEvent(new Event('change'))")
    view.wait_for("return document.getElementById('canvas').dataset.drawn.startsWith('mine')")
    view.run("const s = document.getElementById('kind'); s.value = 'worst'; s.dispatchEvent(new Event('change'))")
    options = view.run("return [...document.getElementById('image').options].map(o => o.text)")
    assert len(options) == 2 and all("worst" in option for option in options)
    view.run("document.querySelectorAll('#strip button')[3].click()")
    drawn(view, "poor / map")
    pressed = view.run("return [...document.querySelectorAll('#strip [aria-pressed=true]')].map(b => b.textContent)")
    assert pressed == ["poor"]
    scores = view.run("return [...document.querySelectorAll('#scores tbody tr')].map(r => r.cells.length)")
    assert scores == [4] * 10


def test_radios_work_from_the_keyboard(view):
    view.run("document.querySelector('[name=method]:checked').focus()")
    view.press("right")
    drawn(view, "poor / overlay")
    assert view.run("return document.activeElement.name + document.activeElement.value") == "method1"


def test_pointing_at_a_row_picks_out_its_curves(view):
    view.run("document.querySelector('#data-0 tr[data-method=\"1\"]').dispatchEvent(new PointerEvent('pointerenter'))")
    lit = view.run("return [...document.querySelectorAll('#data-0 .lit')].map(l => l.getAttribute('class'))")
    assert lit == ["method-1 lit"] * 3
    view.run("document.querySelector('#data-0 tr[data-method=\"1\"]').dispatchEvent(new PointerEvent('pointerleave'))")
    assert view.run("return document.querySelectorAll('#data-0 .dimmed').length") == 0


def test_comparisons_show_one_measure_at_a_time(view):
    count = "return document.querySelectorAll('tr[data-key]:not([hidden])').length"
    assert view.run(count) == 3 * 2  # pairs of methods, data sets
    view.run("const s = document.getElementById('measure'); s.value = ''; s.dispatchEvent(new Event('change'))")
    assert view.run(count) == 3 * 2 * 10


def test_ink_follows_the_colour_scheme(view):
    for scheme, light in (("light", False), ("dark", True)):
        view.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        ink = view.run("return getComputedStyle(document.querySelector('figure svg text')).fill")
        brightness = np.mean([int(part) for part in re.findall(r"\d+", ink)[:3]])
        assert (brightness > 128) == light
    view.devtools("Emulation.setEmulatedMedia", features=[])


def test_nothing_is_wider_than_a_telephone(view):
    view.devtools("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    assert view.run("return document.documentElement.scrollWidth") <= 390
    view.devtools("Emulation.clearDeviceMetricsOverride")
