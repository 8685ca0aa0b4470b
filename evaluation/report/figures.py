"""One style for all figures: fonts, colours, line styles, and how a figure becomes a file.

Colours are Okabe and Ito's ("Color Universal Design", 2008) without yellow and black, safe for the colour-blind. Line
styles repeat with another period, so that lines differ in print without colour too. The same figure drawn again gives
the same bytes.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2), (3, 1.2))
DPI = 120  # of PNG files

STYLE: dict[RcKeyType, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "figure.titlesize": 9,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3 fonts
    "svg.fonttype": "none",
    "svg.hashsalt": "auto-msfnet",  # ids do not change from run to run
}
_UNDATED: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def styled() -> Iterator[None]:
    """Inside, Matplotlib draws in this style. Figures are created inside: most settings are read at creation."""
    with mpl.rc_context(STYLE):
        yield


def style(index: int) -> dict[str, Any]:
    """Colour and dashes of the line in place `index`, as Matplotlib takes them; distinct for 30 lines."""
    dashes = DASHES[index % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": (0, dashes) if dashes else "-"}


def rendered(figure: Figure, kind: Literal["pdf", "svg", "png"], transparent: bool = False) -> bytes:
    """The figure as a file of that kind, without a date; all files of a figure have the layout of the first."""
    target = io.BytesIO()
    with styled():
        figure.savefig(target, format=kind, metadata=_UNDATED.get(kind), transparent=transparent, dpi=DPI)
        figure.set_layout_engine(None)  # which takes half of the time
    return target.getvalue()


def typeset(label: str) -> str:
    """A label with its Greek letters."""
    return label.replace("beta^2", "β²").replace("alpha", "α")  # noqa: RUF001


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element of a page: its ink is the page's, its lines are marked `method-0`, ...

    Args:
        name: goes before every id, so that one page can hold several figures. Letters, digits and `-`.
        label: what the figure shows, for those who do not see it. No quotes or angle brackets.
    """
    text = rendered(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'<g id="[^"]*method-(\d+)-\d+"', r'<g class="method-\1"', text)
    text = text.replace("#000000", "currentColor")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{label}"', text, count=1)
