"""The page: what it holds, and the HTML of it."""

import base64
import io
import math
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from cs_lip.report.exhibits import Pixels
from cs_lip.report.style import FORMATS, encoded, lay_out, page_svg

MARK = '<meta name="generator" content="cs-lip report">'
"""Stands at the top of every page, so that a page can be told from other work."""


@dataclass(frozen=True)
class Panel:
    """A figure with what it shows in words.

    Attributes:
        name: letters and hyphens; unique on a page, and the name of the files that can be saved.
        svg: the element.
        files: data URIs by format.
    """

    name: str
    title: str
    caption: str
    svg: Markup
    files: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """A field of a table.

    Attributes:
        key: what it is sorted by, a number as JavaScript reads it or a text; empty for a field without a value.
        number: whether it stands to the right.
    """

    text: str
    key: str
    number: bool


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by every column."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture of the gallery.

    Attributes:
        image: whose it is, by its number.
        m: from how many measurements; None for a picture that belongs to every number, such as the truth.
        source: a data URI.
    """

    image: int
    m: int | None
    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class Gallery:
    """Pictures of several images over the numbers of measurements."""

    note: str
    images: tuple[str, ...]
    counts: tuple[int, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Page:
    """What a page shows. ``summary`` has pairs of a word and what there is to say of it."""

    title: str
    summary: tuple[tuple[str, str], ...]
    command: str
    panels: tuple[Panel, ...]
    gallery: Gallery | None
    tables: tuple[Table, ...]
    configuration: str
    versions: dict[str, str]


def render(page: Page) -> str:
    """One HTML document that loads nothing: styles, script, figures and pictures are in it. Same page, same text."""
    environment = Environment(
        loader=PackageLoader("cs_lip.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page, mark=Markup(MARK))


def panel(name: str, title: str, caption: str, figure: Figure) -> Panel:
    """A figure for a page, with the files of it that can be saved from there. The figure's layout stays as it is."""
    lay_out(figure)
    files = {kind: data_uri(encoded(figure, kind), FORMATS[kind]) for kind in ("pdf", "png")}
    return Panel(name, title, caption, Markup(page_svg(figure, name)), files)


def picture_uri(pixels: Pixels) -> str:
    """A picture as a PNG that lies in its own address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def data_uri(content: bytes, media_type: str) -> str:
    """An address that holds what it points to (RFC 2397)."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def text_entry(text: str) -> Entry:
    """A field that is sorted as text."""
    return Entry(text, text, number=False)


def number_entry(value: float | None, form: str) -> Entry:
    """A field that is sorted as a number; without one it is a dash, and last."""
    if value is None or math.isnan(value):
        return Entry("-", "", number=True)
    key = repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    return Entry(form.format(value), key, number=True)
