"""The page in a real browser: the slider moves, the table sorts, and nothing leaves the page."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from reports import COUNTS, IMAGES, tiny_sweep

from cs_lip.report.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install 'cs-lip[dev]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; apt-get install chromium")

PATIENCE = 300_000
"""Milliseconds, for machines that are busy with other things; nothing waits that long on purpose."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(tiny_sweep(tmp_path_factory.mktemp("swept"))).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Without its sandbox, which root in a container cannot have; it opens nothing but the page made here.
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield started
        started.close()


class Visit:
    """An open page, what it asked for, and what its console said."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.goto(address)

    def shown(self) -> list[tuple[str | None, str | None]]:
        """Image and number of measurements of every picture that can be seen."""
        figures = self.page.locator(".pictures figure:visible")
        return [
            (figure.get_attribute("data-image"), figure.get_attribute("data-m")) for figure in figures.element_handles()
        ]


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    opened = Visit(browser, address)
    yield opened
    opened.context.close()
    assert opened.troubles == []
    assert [url for url in opened.requests if not url.startswith(("data:", address))] == []


def test_the_slider_moves_by_keyboard_and_shows_other_images(visit: Visit) -> None:
    assert visit.shown() == [("0", None), ("0", "10")]
    slider = visit.page.locator("#count")
    slider.focus()
    slider.press("ArrowRight")
    assert visit.shown() == [("0", None), ("0", "20")]
    assert visit.page.locator("#count-value").text_content() == "20"
    assert slider.get_attribute("aria-valuetext") == "20 measurements"
    slider.press("End")
    visit.page.locator("#image").select_option("2")
    assert visit.shown() == [("2", None), ("2", "40")]
    loaded = "image => image.complete && image.naturalWidth === 16"
    assert all(image.evaluate(loaded) for image in visit.page.locator(".pictures img").element_handles())


def test_the_table_sorts_numbers_as_numbers_both_ways(visit: Visit) -> None:
    table = visit.page.locator("table.sortable").nth(1)
    header = table.locator("th", has_text="MSE").first
    column = int(header.evaluate("cell => cell.cellIndex")) + 1

    def keys() -> list[float]:
        cells = table.locator(f"tbody td:nth-child({column})")
        return [float(text) for text in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]

    before = keys()
    assert before != sorted(before)
    header.locator("button").click()
    assert keys() == sorted(before)
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").press("Enter")
    assert keys() == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"


def test_everything_is_reached_with_the_tab_key(visit: Visit) -> None:
    reached = set()
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        reached.add(visit.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"image", "count", "BUTTON", "A"} <= reached


def test_nothing_is_wider_than_a_phone(browser: Any, address: str) -> None:
    phone = Visit(browser, address, viewport={"width": 360, "height": 740})
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    phone.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_ground_in_light_and_dark(browser: Any, address: str, scheme: str) -> None:
    opened = Visit(browser, address, color_scheme=scheme)
    colour_of = "(element, name) => getComputedStyle(element)[name]"
    parts = [("body", "backgroundColor"), ("p", "color"), ("a[href]", "color"), ("dt", "color"), ("svg text", "fill")]
    colours = [opened.page.locator(part).first.evaluate(colour_of, name) for part, name in parts]
    ground, *inks = [luminance(colour) for colour in colours]
    assert (ground > 0.5) == (scheme == "light")
    for ink in inks:
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5
    opened.context.close()


def test_without_scripts_every_picture_is_shown(browser: Any, address: str) -> None:
    plain = Visit(browser, address, java_script_enabled=False)
    assert len(plain.shown()) == IMAGES * (1 + len(COUNTS))
    plain.context.close()


def luminance(colour: str) -> float:
    """The relative luminance of ``rgb(r, g, b)``; the ratio asked for is that of WCAG 2.2, 1.4.3."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
