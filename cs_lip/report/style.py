"""How figures look, and how they become files: colours that colour-blind readers can tell apart, SVG, PDF and PNG."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cs_lip.files import atomic_path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe & Ito, Color Universal Design, 2008, without the yellow, which is faint on white, and the black."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")

COLOUR_MAP = "cividis"
"""Looks the same with and without colour blindness (Nunez, Anderton & Renslow, PLOS ONE 13(7), 2018)."""

INK = "#000000"
"""What is drawn in it takes the colour of the text around it on a page; see `page_svg`."""

IMAGE_DPI, RUN_DPI = 150, 130

FORMATS = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}
"""What `encoded` writes, and its media types."""


@dataclass(frozen=True)
class Look:
    """How one series is drawn. Colour, marker and dashes all tell it apart, so that grey print does too."""

    color: str
    marker: str
    linestyle: str


def look(number: int) -> Look:
    """Of the series of that number, from 0: 168 of them before one returns."""
    dashes = DASHES[number // len(COLOURS) % len(DASHES)]
    return Look(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], dashes)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches that needs no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axis: Axes, title: str, x: str, y: str) -> None:
    """Titles, a light grid, and no box around it. A name may hold signs of TeX, which are printed as they are."""
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def legend_name(name: str) -> str:
    """A name as a label: those that begin with an underscore, as cameras write, would not be in the legend."""
    return f"\N{ZERO WIDTH SPACE}{name}" if name.startswith("_") else name


def add_legend(figure: Figure, axis: Axes) -> None:
    """What is drawn on ``axis``, named beneath the whole figure."""
    handles, names = axis.get_legend_handles_labels()
    columns = 1 if max(map(len, names), default=0) > 40 else min(len(names), 3)
    legend = figure.legend(
        handles, names, loc="outside lower center", ncols=max(columns, 1), fontsize=8, frameon=False, handlelength=3
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as SVG, PDF or PNG, whichever the name ends in, atomically.

    Raises:
        ValueError: it ends in something else.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"a figure cannot be written as {path.name!r:.80}; try a name that ends in .svg, .pdf or .png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded(figure, kind))


def save_png(path: Path, figure: Figure) -> None:
    """Write the figure of a run as PNG, atomically, whatever the name ends in."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded(figure, "png", dpi=RUN_DPI))


@contextmanager
def any_script() -> Iterator[None]:
    """Draw names of every script without Matplotlib's warning of each sign that its font lacks, which is a box then:
    whoever asked for a picture can do nothing about it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        yield


def lay_out(figure: Figure) -> None:
    """Find the places of everything in a figure, and keep them in all its files."""
    with any_script():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def encoded(figure: Figure, kind: str, *, dpi: int = IMAGE_DPI, transparent: bool = False) -> bytes:
    """A figure as a file's bytes, ``kind`` one of `FORMATS`; the same figure gives the same bytes.

    Text stays text in an SVG, so that it can be searched and read aloud.
    """
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cs-lip"}), any_script():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=undated, transparent=transparent)
    return buffer.getvalue()


def page_svg(figure: Figure, name: str) -> str:
    """The ``<svg>`` element of a figure for a page: see-through, black as the page's own text colour, and its ids
    begin with ``name``, so that two figures on one page do not take each other's.
    """
    text = encoded(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
