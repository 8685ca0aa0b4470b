"""Scores on disk: one CSV line per map, and a JSON file with everything."""

import json
from pathlib import Path

from evaluation.measures import label
from evaluation.metrics import DatasetScores
from evaluation.tables.writer import comma_separated
from utils.files import replace_text


def write_csv(scores: DatasetScores, path: Path) -> None:
    """One line per map: its name and its measures, with all digits."""
    rows = ([row.name, *row.measures.values()] for row in scores.rows)
    replace_text(path, comma_separated(["name", *scores.measures], rows))


def write_json(scores: DatasetScores, path: Path) -> None:
    """Measures with their labels, curves at the thresholds 0..255, and the measures of every map."""
    content = {
        "count": len(scores.rows),
        "labels": {key: label(key) for key in scores.measures},
        "measures": scores.measures,
        "curves": {name: curve.tolist() for name, curve in vars(scores.curves).items()},
        "images": {row.name: row.measures for row in scores.rows},
    }
    replace_text(path, json.dumps(content, indent=1) + "\n")
