"""Photograph the page of a sweep: ``python docs/draw_report.py curve`` writes docs/images/report.png.

The folder is one that ``cs-lip sweep --plan measurements --quick --out curve`` left. Needs ``chromium``.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from cs_lip.report.report import write_report

SIZE = {"width": 1000, "height": 1440}


def main(folder: Path) -> None:
    """The top of the page with the slider one step on."""
    address = write_report(folder).as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(address)
        page.locator("input[type=range]:visible").first.press("ArrowRight")
        page.screenshot(path=Path(__file__).parent / "images" / "report.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
