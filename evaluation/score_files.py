"""Scores on disk: one CSV line per map, and a JSON file with everything."""

import json
from dataclasses import asdict
from pathlib import Path

from evaluation.metrics import KEYS, LABELS, DatasetScores
from evaluation.tables.writer import comma_separated
from utils.files import replace_text


def write_csv(scores: DatasetScores, path: Path) -> None:
    """One line per map: its name and its measures, with all digits."""
    rows = ([row.name, *asdict(row.measures).values()] for row in scores.rows)
    replace_text(path, comma_separated(["name", *KEYS], rows))


def write_json(scores: DatasetScores, path: Path) -> None:
    """Measures with their labels, curves at the thresholds 0..255, and the measures of every map."""
    content = {
        "count": len(scores.rows),
        "labels": LABELS,
        "measures": asdict(scores.measures),
        "curves": {name: curve.tolist() for name, curve in vars(scores.curves).items()},
        "images": {row.name: asdict(row.measures) for row in scores.rows},
    }
    replace_text(path, json.dumps(content, indent=1) + "\n")
