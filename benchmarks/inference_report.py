"""Table, plot and line of JSON of benchmarks/inference.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.report.figures import rendered, styled
from evaluation.tables.writer import Table, markdown
from inference.engines.choice import TOLERANCE
from utils.files import replace_bytes, replace_text

SPEEDUPS = {
    "torch_speedup": ("torch", "bf16"),
    "openvino_bf16_speedup": ("openvino", "bf16"),
    "openvino_int8_speedup": ("openvino", "int8"),
}
"""Figures of the line of JSON, and of which engine and precision they are, whole pipeline, ResNet-50."""

NOISY = 0.15
"""Spread of the rounds above which a ratio is not drawn."""

_COLOURS = {"plain": "0.6", "torch": "tab:red", "onnxruntime": "tab:blue", "openvino": "tab:purple"}


def figures(parts: Mapping[str, Any]) -> dict[str, float | None]:
    """The line of JSON; None where a variant was not measured."""
    record: dict[str, float | None] = {}
    rows = _by_variant(parts.get("resnet50"))
    plain = rows.get(("plain", "fp32"))
    for name, variant in SPEEDUPS.items():
        row = rows.get(variant)
        if row is None and name == "torch_speedup":
            row = rows.get(("torch", "fp32"))  # a processor without bfloat16
        record[name] = round(_pipeline(plain) / _pipeline(row), 2) if plain and row else None
    lite = [row for (engine, _), row in _by_variant(parts.get("lite")).items() if engine != "plain"]
    torch = [row for row in lite if row["engine"] == "torch"]
    record["lite_images_per_s"] = round(1000 / min(map(_pipeline, lite)), 1) if lite else None
    record["lite_torch_images_per_s"] = round(1000 / min(map(_pipeline, torch)), 1) if torch else None
    ratios = [ratio for ratio in map(_auto_over_best, parts.values()) if ratio is not None]
    record["auto_over_best"] = min(ratios, default=None)
    for name in ("resnet50", "lite"):
        record[f"{name}_share"] = _share_of_auto(parts.get(name))
    return record


def _share_of_auto(part: Any) -> float | None:
    """Share of the limit that the variant reaches which `auto` takes; None if it was not measured."""
    chosen = _by_variant(part).get(tuple(part.get("auto", ()))) if part else None
    share = None if chosen is None else _share(part, chosen)
    return None if share is None else round(share, 3)


def _share(part: Any, row: Any) -> float | None:
    """The limit of a row's precision over the time of its whole pipeline."""
    limit = part["limit"].get(row["precision"])
    return None if limit is None else limit / _pipeline(row)


def _auto_over_best(part: Any) -> float | None:
    """Speed of the variant that `auto` takes over that of the fastest one which it may take; None if not measured.

    It may take a variant whose maps stay within `TOLERANCE` of float32's: int8 of seeded weights does not.
    """
    rows = _by_variant(part)
    chosen = rows.get(tuple(part.get("auto", ()))) if part else None
    right = {name: row for name, row in rows.items() if row.get("difference", 0.0) <= TOLERANCE}
    ours = [_pipeline(row) for (engine, _), row in right.items() if engine != "plain"]
    return round(min(ours) / _pipeline(chosen), 3) if chosen else None


def write_report(parts: Mapping[str, Any], target: Path) -> None:
    """Writes `target`.md and `target`.svg from what was measured of every network."""
    order = sorted(parts, key=lambda name: -parts[name]["gmac"]["plain"])
    lines = [
        "# Speed of every engine",
        "",
        "Milliseconds an image, medians of alternated rounds. `x` is the speed of the whole pipeline in batches of 8 "
        "against the plain network in the same pipeline. Plain: PyTorch eager, float32, contiguous, three heads, "
        "unfolded. "
        "`of limit`: the least time that this processor needs for the operations of the folded network in that "
        "precision (`benchmarks/limits.py`, same run), over the time of pipeline 8. Spread: (slowest - fastest) / "
        "median of the rounds of pipeline 8. Memory: peak of two batches, in its own process.",
    ]
    for name in order:
        lines += ["", table(name, parts[name])]
    replace_text(target.with_suffix(".md"), "\n".join(lines) + "\n")
    with styled():
        figure = _plot({name: parts[name] for name in order})
    replace_bytes(target.with_suffix(".svg"), rendered(figure, "svg"))


def table(name: str, part: Any) -> str:
    """What was measured of one network, in Markdown."""
    plain = _pipeline(part["rows"][0])
    ways = list(part["rows"][0]["ms"])
    gmac = part["gmac"]
    limits = ", ".join(f"{key} {value:.2f}" for key, value in part["limit"].items()) or "not measured"
    lines = [
        f"## {name}",
        "",
        f"{part['size']} x {part['size']}, {gmac['plain']:.2f} GMAC, folded {gmac['folded']:.2f}; {part['count']} "
        f"images of `{part['images']}`, {part['rounds']} rounds; {part['machine']}; limit, milliseconds an image: "
        f"{limits}.",
        "",
    ]
    rows = []
    for row in part["rows"]:
        share = _share(part, row)
        cells = [
            row["engine"], row["precision"], *(f"{row['ms'][way]:.1f}" for way in ways),
            f"{1000 / _pipeline(row):.1f}", f"{plain / _pipeline(row):.2f}",
            "" if share is None else f"{100 * share:.0f} %",
            f"{100 * _spread(row):.0f} %", "" if row["memory"] is None else f"{row['memory']:.0f}",
        ]  # fmt: skip
        rows.append(cells)
    heads = ["engine", "precision", *ways, "images/s", "x", "of limit", "spread", "MB"]
    return "\n".join([*lines, markdown(Table(heads, rows, 2))])


def _by_variant(part: Any) -> dict[tuple[str, str], Any]:
    return {(row["engine"], row["precision"]): row for row in part["rows"]} if part else {}


def _pipeline(row: Any) -> float:
    return row["ms"]["pipeline 8"]


def _spread(row: Any) -> float:
    return row.get("spread", {}).get("pipeline 8", 0.0)  # earlier measurements did not keep it


def _plot(parts: Mapping[str, Any]) -> Figure:
    """Images a second of every variant, a panel a network."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for panel, (name, part) in zip(panels, parts.items(), strict=True):
        rows = part["rows"][::-1]
        speeds = [1000 / _pipeline(row) for row in rows]
        labels = [f"{row['engine']} {row['precision']}" for row in rows]
        bars = panel.barh(labels, speeds, color=[_COLOURS[row["engine"]] for row in rows])
        noisy = [max(_spread(row), _spread(rows[-1])) > NOISY for row in rows]
        ratios = ["noisy" if bad else f"{speed / speeds[-1]:.1f} x" for speed, bad in zip(speeds, noisy, strict=True)]
        panel.bar_label(bars, ratios, padding=3)
        panel.set_title(f"{name}, {part['size']} pixels")
        panel.set_xlabel("images/s, JPEG to PNG")
        panel.set_xlim(0, 1.2 * max(speeds))
    return figure
