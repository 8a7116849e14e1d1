"""Where recovery works: a phase diagram of success over measurements and noise."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cs_lip.evaluation.statistics import wilson_interval
from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.curves import MOST_PANELS
from cs_lip.report.groups import grouped, method_names, method_of
from cs_lip.report.style import COLOUR_MAP, new_figure, tidy

SUCCESS_MSE = 1e-3
"""An image counts as recovered up to this mean squared error per pixel, 30 dB of PSNR."""

MOST_WRITTEN = 12
"""Columns up to which the numbers are written into the fields."""


def phase_figure(rows: Sequence[Row], *, success_mse: float = SUCCESS_MSE) -> Figure:
    """The share of images and seeds recovered to ``success_mse`` over measurements (across) and noise (upwards).

    There is a panel for each method and kind of image (the first `MOST_PANELS`).

    In each field stands the share with its 95 % Wilson interval, in per cent. A row without a finite error is a
    failure.
    """
    names = method_names(rows)
    panels = grouped(rows, lambda row: (method_of(row), row.kind))
    shown = sorted(panels, key=lambda each: (list(names).index(each[0]), each[1]))[:MOST_PANELS]
    counts, levels = sorted({row.m for row in rows}), sorted({row.sigma for row in rows})
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)
    wide, high = max(3.4, 0.62 * len(counts) + 1.2), max(1.8, 0.5 * len(levels) + 1.1)
    figure = new_figure(wide * columns + 0.8, high * lines + 0.2)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for (method, kind), axis in zip(shown, axes, strict=False):
        drawn = _draw(axis, panels[method, kind], counts, levels, success_mse)
        tidy(axis, f"{names[method]} ({kind})", "measurements m", "noise")
        axis.label_outer()
        axis.grid(visible=False)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label(f"share with error up to {success_mse:g}", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def success_rate(rows: Sequence[Row], success_mse: float = SUCCESS_MSE) -> tuple[int, int]:
    """How many of the rows are recovered to ``success_mse``, and of how many."""
    return sum(math.isfinite(row.mse) and row.mse <= success_mse for row in rows), len(rows)


def _draw(
    axis: Axes, rows: Sequence[Row], counts: Sequence[int], levels: Sequence[float], success_mse: float
) -> AxesImage:
    fields = {
        place: success_rate(own, success_mse) for place, own in grouped(rows, lambda row: (row.m, row.sigma)).items()
    }
    shares = [
        [
            won / tried if (won, tried) != (0, 0) else math.nan
            for won, tried in (fields.get((m, s), (0, 0)) for m in counts)
        ]
        for s in levels
    ]
    drawn = axis.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, origin="lower", aspect="auto")
    axis.set_xticks(range(len(counts)), [f"{m}" for m in counts], rotation=45 if len(counts) > 6 else 0)
    axis.set_yticks(range(len(levels)), [f"{sigma:g}" for sigma in levels])
    if len(counts) > MOST_WRITTEN:
        return drawn
    for (m, sigma), (won, tried) in fields.items():
        rate = wilson_interval(won, tried)
        text = f"{100 * rate.estimate:.0f}\n{100 * rate.low:.0f}-{100 * rate.high:.0f}"
        place = counts.index(m), levels.index(sigma)
        axis.text(*place, text, fontsize=6.5, ha="center", va="center", color=on_map(rate.estimate))
    return drawn


def on_map(share: float) -> str:
    """What can be read on the colour map at that share of its range: never `INK`, which changes with the page."""
    return "#111111" if share > 0.5 else "#f4f4f4"
