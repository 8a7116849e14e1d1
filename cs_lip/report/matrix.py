"""The image matrix: the truth, and what every method makes of ever more measurements."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cs_lip.report.exhibits import Exhibit, Pixels
from cs_lip.report.style import new_figure
from cs_lip.report.text import decibels

MOST_COUNTS = 8
CELL_INCHES = 1.05


def matrix_figure(exhibit: Exhibit) -> Figure:
    """One image: a row a method, a column a number of measurements (`MOST_COUNTS` at most), the truth before them.

    Above each recovered image stands its PSNR.
    """
    methods = list(dict.fromkeys(shot.method for shot in exhibit.shots))
    counts = sorted({shot.m for shot in exhibit.shots})
    counts = counts[:: -(-len(counts) // MOST_COUNTS)]
    shots = {(shot.method, shot.m): shot for shot in exhibit.shots}
    figure = new_figure(CELL_INCHES * (len(counts) + 1) + 1.6, (CELL_INCHES + 0.16) * len(methods) + 0.5)
    axes = figure.subplots(len(methods), len(counts) + 1, squeeze=False)
    for line, method in enumerate(methods):
        _show(axes[line, 0], exhibit.truth if line == 0 else None, "truth")
        name = method.replace(", ", ",\n").replace(" (", "\n(")
        place = {"x": -0.06, "y": 0.5, "ha": "right", "va": "center", "transform": axes[line, 0].transAxes}
        axes[line, 0].text(s=name, fontsize=7, parse_math=False, **place)
        for column, m in enumerate(counts, start=1):
            shot = shots.get((method, m))
            axis = axes[line, column]
            _show(axis, None if shot is None else shot.pixels, "" if shot is None else decibels(shot.psnr))
            if line == len(methods) - 1:
                axis.text(0.5, -0.06, f"m = {m}", fontsize=8, ha="center", va="top", transform=axis.transAxes)
    figure.suptitle(exhibit.image, fontsize=10, parse_math=False)
    return figure


def _show(axis: Axes, pixels: Pixels | None, title: str) -> None:
    axis.set_axis_off()
    if pixels is not None:
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
        axis.set_title(title, fontsize=7, pad=2)
