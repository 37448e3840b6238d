"""Screenshots of the report and of the explorer, of a run of ``advcam demo``: docs/figures/report.jpg, explore.jpg, climb.jpg.

python docs/figures/screens.py RUN     # a finished run; needs Chromium and pip install playwright
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent


def saved(page: Page, name: str) -> None:
    """Saves what the page shows."""
    shown = Image.open(BytesIO(page.screenshot())).convert("RGB")
    shown.save(HERE / name, quality=85, subsampling=0, optimize=True)


def main(run: Path) -> None:
    """Opens the pages and saves them."""
    command = [sys.executable, "-m", "advcam", "explore", "--run", str(run), "--port", "0", "--quiet"]
    with sync_playwright() as playwright, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 760})
        page.goto((run / "report.html").resolve().as_uri())
        page.get_by_label("other way round").check()  # the best first
        page.evaluate("document.querySelector('#images').scrollIntoView()")
        page.wait_for_timeout(1500)
        saved(page, "report.jpg")
        address = served.stdout.readline().strip() if served.stdout else ""
        for part, name in (("correct", "explore.jpg"), ("climb", "climb.jpg")):
            page = browser.new_page(viewport={"width": 1200, "height": 760})
            page.goto(f"{address}#{part}")
            page.wait_for_timeout(6000)
            saved(page, name)
        served.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
