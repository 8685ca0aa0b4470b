"""The tables of the shipped models in weights/ and docs/, from what evaluate.py wrote.

    python evaluate.py --data ... --maps lite=DIR base=DIR U2-Net-p=DIR U2-Net=DIR \\
        --strata area count contrast --out FOLDER
    python benchmarks/model_tables.py FOLDER ...        several folders where the parts were scored apart
    python -m evaluation.tables --write                 puts the tables into the documents

Writes weights/NAME_scores.csv of our models, and peers.csv, peers_tests.csv, failures.csv and worst.csv to docs/.
"""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.tables.scores import short
from evaluation.tables.writer import comma_separated
from settings.parser import arguments
from utils.errors import UserError, exit_on_user_error
from utils.files import replace_text

ROOT = Path(__file__).resolve().parents[1]
OURS = ("lite", "base")
NAMES = {"maxf": "max F", "adpf": "adaptive F", "wfm": "weighted F", "mae": "MAE", "sm": "S", "adpe": "adaptive E",
         "meane": "mean E", "msiou": "MSIoU"}  # fmt: skip
CARD = ("maxf", "adpf", "wfm", "mae", "sm", "adpe", "meane")
BESIDE = ("maxf", "adpf", "wfm", "mae", "sm", "adpe", "msiou")
STRATA = {"area": "object's share", "count": "objects", "contrast": "contrast of colours"}
PARTS = ("ECSSD-250", "DUTS-TE-500", "PASCAL-S-100")
LEAST = 5  # images of a stratum that is shown
Row = Mapping[str, str]


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Writes all tables below `root`."""
    parser = arguments(__doc__, "model_tables.py")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="evaluate.py's --out")
    folders: list[Path] = parser.parse_args(words).folders
    scores = [row for row in in_order(folders, "tables.csv") if row["source"] == "measured"]
    tests = in_order(folders, "comparisons.csv")
    for name in OURS:
        own = [row for row in scores if row["method"] == name]
        replace_text(root / "weights" / f"{name}_scores.csv", card_table(own))
    replace_text(root / "docs" / "peers.csv", peers_table(scores))
    replace_text(root / "docs" / "peers_tests.csv", tests_table(tests))
    parts = {row["data_set"]: folder for folder in folders for row in rows_of(folder / "tables.csv")}
    replace_text(root / "docs" / "failures.csv", strata_table([(part, parts[part]) for part in PARTS]))
    replace_text(root / "docs" / "worst.csv", worst_table([(part, parts[part]) for part in PARTS]))
    return 0


def in_order(folders: Iterable[Path], name: str) -> list[dict[str, str]]:
    """The rows of a file in all folders, in the order of `PARTS`.

    Raises:
        UserError: a file cannot be read, or the rows of a part are missing or not known.
    """
    found = [row for folder in folders for row in rows_of(folder / name)]
    parts = {row["data_set"] for row in found}
    if parts != set(PARTS):
        raise UserError(f"{name}: has the parts {', '.join(sorted(parts))}, expected {', '.join(PARTS)}.")
    return sorted(found, key=lambda row: PARTS.index(row["data_set"]))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Give a folder that evaluate.py wrote, with --strata.") from None


def card_table(rows: Iterable[Row]) -> str:
    """The scores of one model, without intervals."""
    lines = [[row["data_set"], row["maps"], *(short(float(row[key])) for key in CARD)] for row in rows]
    return comma_separated(["part", "images", *(NAMES[key] for key in CARD)], lines)


def peers_table(rows: Iterable[Row]) -> str:
    """The scores of all methods with their intervals."""
    lines = [[row["data_set"], row["method"], *(with_interval(row, key) for key in BESIDE)] for row in rows]
    return comma_separated(["part", "method", *(NAMES[key] for key in BESIDE)], lines)


def tests_table(rows: Iterable[Row]) -> str:
    """Differences of weighted F of our models to all others, with p after Holm's correction."""
    lines = [
        [
            row["data_set"], f"{row['first']} less {row['second']}",
            f"{signed(row['difference'])} ({signed(row['low'])} to {signed(row['high'])})",
            chance(float(row["adjusted"])),
        ]
        for row in rows if row["key"] == "wfm" and row["first"] in OURS
    ]  # fmt: skip
    return comma_separated(["part", "pair", "difference", "p"], lines)


def strata_table(parts: Iterable[tuple[str, Path]]) -> str:
    """Weighted F of our models by kind of image."""
    lines: list[list[str]] = []
    for part, folder in parts:
        for kind, title in STRATA.items():
            found: dict[str, dict[str, Row]] = {}
            for row in rows_of(folder / "strata" / f"{part}-{kind}.csv"):
                found.setdefault(row[kind], {})[row["method"]] = row
            for stratum, methods in found.items():
                images = methods[OURS[0]]["images"]
                if int(images) >= LEAST:
                    lines.append(
                        [part, title, stratum, images, *(with_interval(methods[name], "wfm") for name in OURS)]
                    )
    return comma_separated(["part", "images by", "stratum", "images", *OURS], lines)


def worst_table(parts: Iterable[tuple[str, Path]]) -> str:
    """How much of what our models lose in weighted F the worst images hold, and the score without them."""
    lines: list[list[str]] = []
    for part, folder in parts:
        for name in OURS:
            found = sorted(float(row["wfm"]) for row in rows_of(folder / "scores" / part / f"{name}.csv"))
            count, lost = len(found), [1 - value for value in found]
            share = sum(lost[: count // 10]) / sum(lost)
            lines.append([part, name, f"{100 * share:.0f} %", short(mean(found)), short(mean(found[count // 20 :]))])
    return comma_separated(
        ["part", "model", "lost by the worst tenth", "weighted F", "without the worst twentieth"], lines
    )


def with_interval(row: Row, key: str) -> str:
    """A score and the ends of its 95 % interval."""
    value, low, high = (short(float(row[name])) for name in (key, f"{key}_low", f"{key}_high"))
    return f"{value} ({low} to {high})"


def signed(value: str) -> str:
    """A difference with its sign and three digits."""
    number, digits = float(value), short(abs(float(value)))
    return digits if digits == ".000" else ("+" if number > 0 else "-") + digits


def chance(p: float) -> str:
    """A p value with three digits."""
    return "< .001" if p < 0.001 else "1" if p >= 0.9995 else short(p)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
