"""Curves: distinct in print and for the colour-blind, vector, the same bytes each time."""

import re
import zlib
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.metrics import Curves
from evaluation.report.curves import draw_curves
from evaluation.report.figures import COLOURS, inline_svg, rendered, style


def drawn():
    line = np.linspace(1, 0, 256)
    return draw_curves("A & B", {name: Curves(line**power, line, line, line) for power, name in ((1, "a<b"), (2, "c"))})


@pytest.fixture(scope="module")
def figure():
    return drawn()


def test_thirty_methods_have_thirty_styles():
    styles = {str(style(index)) for index in range(30)}
    assert len(styles) == 30
    neighbours = [(style(i), style(i + 1)) for i in range(29)]
    assert all(a["color"] != b["color"] and a["linestyle"] != b["linestyle"] for a, b in neighbours)


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


# Viénot, Brettel, Mollon: "Digital video colourmaps for checking the legibility of displays by dichromats" (1999).
DICHROMATS = {
    "protanope": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranope": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_colours_differ_to_dichromats(eyes):
    seen = [np.cbrt(np.clip(np.array(DICHROMATS[eyes]) @ linear(colour), 0, 1)) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.08


def test_pdf_is_vector_with_real_letters(figure):
    written = rendered(figure, "pdf")
    assert written.startswith(b"%PDF")
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", written, re.DOTALL)
    content = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"x")
    assert content.count(b" l\n") > 100  # line segments
    assert b"/Subtype /Image" not in written
    assert b"/Subtype /Type3" not in written and b"/Subtype /CIDFontType2" in written


def test_svg_is_well_formed_with_text_as_text(figure):
    root = ElementTree.fromstring(rendered(figure, "svg"))
    texts = {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"A & B", "a<b", "recall", "precision", "threshold"} <= texts
    assert not list(root.iter("{http://www.w3.org/2000/svg}image"))


def test_names_are_printed_as_they_are_and_stay_on_the_page():
    line = np.linspace(1, 0, 256)
    names = ["_mine", "a$b$c", *(f"a method with a rather long name, {i}" for i in range(6))]
    figure = draw_curves("$5 and $6", dict.fromkeys(names, Curves(line, line, line, line)))
    root = ElementTree.fromstring(rendered(figure, "svg"))
    texts = {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"$5 and $6", *names} <= texts
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


def test_files_repeat_to_the_byte():
    assert rendered(drawn(), "pdf") == rendered(drawn(), "pdf")
    assert rendered(drawn(), "svg") == rendered(drawn(), "svg")


def test_inline_figures_can_stand_together(figure):
    first, second = (inline_svg(figure, name, "curves") for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', first)
    assert used and set(used) <= ids[0]
    assert first.count('class="method-0"') == first.count('class="method-1"') == 3
    assert first.startswith("<svg") and 'aria-label="curves"' in first
    assert "#000000" not in first
    ElementTree.fromstring(first)


def test_panels_show_the_numbers(figure):
    recall, f = figure.axes[0].lines[1], figure.axes[1].lines[0]
    np.testing.assert_allclose(recall.get_ydata(), np.linspace(1, 0, 256) ** 2)
    np.testing.assert_allclose(f.get_xdata(), np.arange(256))
