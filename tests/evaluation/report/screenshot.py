"""Writes docs/evaluate_page.png: a page of evaluate.py, from its head to its end.

python -m tests.evaluation.report.screenshot runs/evaluation/index.html [FILE.png]
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser import browser

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 1200


def main() -> int:
    """Takes the screenshot."""
    page = Path(sys.argv[1])
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "evaluate_page.png"
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch), (WIDTH, 1600)) as window:
        window.open(page)
        for _ in range(2):  # the height depends on the width
            height = window.run("return document.documentElement.scrollHeight")
            window.devtools(
                "Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False
            )
        window.screenshot(target)
    Image.open(target).convert("P", palette=Image.Palette.ADAPTIVE).save(target, optimize=True)
    print(f"{target} ({target.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
