"""Writes docs/web_page.png: the page of web/dist on a desktop and on a phone.

make web && python -m tests.web.screenshot [FILE.png]
"""

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.browser import Browser, browser, served
from web.build import HERE, ROOT

GAP, BACKGROUND = 24, (226, 230, 236)
TAKE = "document.getElementById('sample').click()"
DONE = "return document.getElementById('status').textContent.includes('done in')"


def main() -> int:
    """Takes both screenshots and lays them side by side."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "web_page.png"
    with tempfile.TemporaryDirectory() as scratch, served(HERE / "dist") as address:
        shots = []
        for name, size, background in (("desktop", (1120, 660), "transparent"), ("phone", (360, 660), "blur")):
            with browser(Path(scratch) / name, size) as window:
                shots.append(shoot(window, address, size, background, Path(scratch) / f"{name}.png"))
    height = max(shot.height for shot in shots) + 2 * GAP
    canvas = Image.new("RGB", (sum(shot.width + GAP for shot in shots) + GAP, height), BACKGROUND)
    left = GAP
    for shot in shots:
        canvas.paste(shot, (left, GAP))
        left += shot.width + GAP
    canvas.save(target, optimize=True)
    print(f"{target} ({target.stat().st_size / 1000:.0f} kB)")
    return 0


def shoot(window: Browser, address: str, size: tuple[int, int], background: str, path: Path) -> Image.Image:
    """The page with the sample image cut out."""
    window.devtools(
        "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
    )
    window.open(address)
    window.run(TAKE)
    window.wait_for(DONE, 120)
    window.run("document.querySelector(`input[value=${arguments[0]}]`).click()", background)
    time.sleep(0.5)  # until the clicked choice is drawn
    window.screenshot(path)
    return Image.open(path).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
