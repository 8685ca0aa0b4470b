"""One HTML page with everything: sortable scores, curves, comparisons, and a viewer of images.

The page is a single file and needs no network: style, script, figures and images are inside it, and its
content policy forbids the browser to load anything else. So that it stays a file one can send, images are shrunk and
only the selected ones are in it, as many as fit `BUDGET`; the page says how many.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.comparison import CORRECTION, Comparison, signed, small
from evaluation.measures import label, lower_is_better
from evaluation.methods import Evaluated
from evaluation.metrics import BOUNDARY_NOTE
from evaluation.report.curves import draw_curves
from evaluation.report.figures import inline_svg, typeset
from evaluation.report.html import render
from evaluation.report.selection import KINDS, RANKED_BY, select
from evaluation.report.sheets import tiles
from evaluation.report.strata import StrataReport, draw_strata
from evaluation.table1 import benchmark_of
from evaluation.tables.scores import short, source_note
from utils.files import replace_text

BUDGET = 10_000_000  # characters of images; with curves and tables the page stays well below 15 MB
VIEWER_SIDE = 480  # pixels of the longer side
_TEMPLATE, _SCRIPT = (Path(__file__).with_name(name) for name in ("page.html.j2", "page.js"))


@dataclass(frozen=True)
class Choice:
    """A image of the page: its dataset, its place there, and why it was chosen (names of `KINDS`)."""

    data_set: int
    place: int
    kinds: tuple[str, ...]


def write_page(
    evaluated: Sequence[Evaluated],
    comparisons: Sequence[Comparison],
    images: int,
    path: Path,
    *,
    rank_by: str = RANKED_BY,
    budget: int = BUDGET,
    strata: Sequence[StrataReport] = (),
) -> None:
    """Writes the page.

    Args:
        images: of each kind and dataset, if the budget allows.
        rank_by: measure that ranks them.
        budget: characters that the images may take.
        strata: their figures are shown with their datasets.
    """
    chosen = choose(evaluated, images, rank_by)
    shown = list(_within(budget, _encoded(evaluated, chosen)))
    keys = evaluated[0].table().keys
    values = {
        "sections": [_section(place, each, strata) for place, each in enumerate(evaluated)],
        "comparisons": comparisons,
        "correction": CORRECTION,
        "keys": keys,
        "labels": {key: label(key) for key in keys},
        "lower": {key for key in keys if lower_is_better(key)},
        "kinds": KINDS,
        "rank_by": typeset(label(rank_by)),
        "library": f"pysodmetrics {version('pysodmetrics')}",
        "notes": [
            *([source_note()] if any(benchmark_of(each.data_set.name) for each in evaluated) else []),
            BOUNDARY_NOTE,
        ],
        "methods": list(dict.fromkeys(method for each in evaluated for method in each.scores)),
        "total": sum(len(each.data_set.targets) for each in evaluated),
        "viewer": {
            "dataSets": _viewer(evaluated, shown),
            "keys": keys,
            "lower": [key for key in keys if lower_is_better(key)],
            "labels": {key: typeset(label(key)) for key in keys},
            "kinds": KINDS,
        },
        "script": _SCRIPT.read_text(encoding="utf-8"),
        "shown": len(shown),
        "chosen": len(chosen),
    }
    filters = {"short": short, "signed": signed, "small": small, "typeset": typeset}
    replace_text(path, render(_TEMPLATE, values, filters))


def choose(evaluated: Sequence[Evaluated], count: int, rank_by: str = RANKED_BY) -> list[Choice]:
    """The images for the page, each once; the strongest examples of every dataset and kind first."""
    ranked = []
    kinds: dict[tuple[int, int], list[str]] = {}
    for number, each in enumerate(evaluated):
        if not each.data_set.has_images:
            continue
        for kind, places in select(each, count, rank_by).kinds.items():
            ranked.append([(number, place) for place in places])
            for place in places:
                kinds.setdefault((number, place), []).append(kind)
    in_turn = (key for keys in zip_longest(*ranked) for key in keys if key is not None)
    return [Choice(number, place, tuple(kinds[number, place])) for number, place in dict.fromkeys(in_turn)]


def _section(number: int, each: Evaluated, strata: Sequence[StrataReport]) -> dict[str, Any]:
    """What the template needs of one dataset."""
    table = each.table()
    figure = draw_curves("", {method: scores.curves for method, scores in each.scores.items()})
    label = "Precision-recall curves, and F and E over the threshold, of every method"
    figures = [
        {
            "kind": report.kind,
            "svg": inline_svg(
                draw_strata(report, ""), f"strata-{number}-{report.kind}", f"Scores of every method by {report.kind}"
            ),
        }
        for report in strata
        if report.dataset == each.data_set.name
    ]
    return {"table": table, "curves": inline_svg(figure, f"curves-{number}", label), "strata": figures}


def _encoded(evaluated: Sequence[Evaluated], chosen: Sequence[Choice]) -> Iterator[tuple[Choice, dict[str, Any]]]:
    for choice in tqdm(chosen, "images of the page", unit="image", disable=None):
        each = evaluated[choice.data_set]
        images = tiles(each, choice.place, VIEWER_SIDE)
        rows = [scores.rows[choice.place] for scores in each.scores.values()]
        yield (
            choice,
            {
                "name": each.data_set.names[choice.place],
                "kinds": choice.kinds,
                "image": _data_uri(images["image"], ".jpg", cv2.IMWRITE_JPEG_QUALITY, 80),
                "mask": _data_uri(images["mask"], ".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
                "maps": [
                    _data_uri(images[f"map {method}"], ".webp", cv2.IMWRITE_WEBP_QUALITY, 80) for method in each.scores
                ],
                "scores": [list(row.measures.values()) for row in rows],
            },
        )


def _within(budget: int, encoded: Iterator[tuple[Choice, dict[str, Any]]]) -> Iterator[tuple[Choice, dict[str, Any]]]:
    """The first images, as long as they fit."""
    for choice, image in encoded:
        budget -= sum(map(len, [image["image"], image["mask"], *image["maps"]]))
        if budget < 0:
            return
        yield choice, image


def _viewer(evaluated: Sequence[Evaluated], shown: Sequence[tuple[Choice, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the viewer shows: the datasets of which any image is shown."""
    found = [
        {
            "name": each.data_set.name,
            "methods": list(each.scores),
            "images": [image for choice, image in shown if choice.data_set == number],
        }
        for number, each in enumerate(evaluated)
    ]
    return [each for each in found if each["images"]]


def _data_uri(image: NDArray[np.uint8], suffix: str, option: int, quality: int) -> str:
    """`data:image/...;base64,...` of an RGB or grey image."""
    if image.ndim == 3:
        image = image[..., ::-1]  # OpenCV writes BGR
    _, encoded = cv2.imencode(suffix, image, [option, quality])
    kind = {".jpg": "jpeg", ".webp": "webp"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"
