"""Where recovery works: a phase diagram of success over measurements and noise."""

import math
from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cs_lip.evaluation.statistics import Interval, rate_interval
from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.curves import MOST_PANELS
from cs_lip.report.groups import Condition, Method, condition_of, grouped, method_names, method_of, names_of
from cs_lip.report.style import COLOUR_MAP, new_figure, tidy

SUCCESS_MSE = 1e-3
"""An image counts as recovered up to this mean squared error per pixel, 30 dB of PSNR."""

MOST_WRITTEN = 12
"""Columns up to which the numbers are written into the fields."""


def phase_figure(rows: Sequence[Row], *, success_mse: float = SUCCESS_MSE) -> Figure:
    """The share of images and seeds recovered to ``success_mse`` over measurements (across) and noise (upwards).

    There is a panel for each of `phase_groups` (the first `MOST_PANELS`). In each field stands the share with its
    `success_rate` interval, in per cent.

    Raises:
        ValueError: there is no such group.
    """
    panels = phase_groups(rows)
    if not panels:
        raise ValueError(
            "a phase diagram needs several m and several levels of noise of one method, kind of image, operator and "
            "share of outliers, got none; try a sweep with more of both"
        )
    names, conditions = method_names(rows), names_of(condition for _, condition in panels)
    order = {key: number for number, key in enumerate([*names, *conditions])}
    shown = sorted(panels, key=lambda each: (order[each[0]], order[each[1]]))[:MOST_PANELS]
    drawn_rows = [row for key in shown for row in panels[key]]
    counts, levels = sorted({row.m for row in drawn_rows}), sorted({row.sigma for row in drawn_rows})
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)
    wide, high = max(3.4, 0.62 * len(counts) + 1.2), max(1.8, 0.5 * len(levels) + 1.3)
    figure = new_figure(wide * columns + 0.8, high * lines + 0.2)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for (method, condition), axis in zip(shown, axes, strict=False):
        drawn = _draw(axis, panels[method, condition], counts, levels, success_mse)
        tidy(axis, f"{names[method]}\n{conditions[condition]}", "measurements m", "noise")
        axis.label_outer()
        axis.grid(visible=False)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label(f"share with error up to {success_mse:g}", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def phase_groups(rows: Sequence[Row]) -> dict[tuple[Method, Condition], list[Row]]:
    """The rows of each method under each condition but the noise, which is told as 0, where they have several numbers
    of measurements and several levels of noise. Some tasks, such as denoising, have one number of measurements.
    """
    groups = grouped(rows, lambda row: (method_of(row), replace(condition_of(row), sigma=0.0)))
    return {
        key: own
        for key, own in groups.items()
        if len({row.m for row in own}) > 1 and len({row.sigma for row in own}) > 1
    }


def success_rate(rows: Sequence[Row], success_mse: float = SUCCESS_MSE) -> Interval:
    """The share of the rows that are recovered to ``success_mse``, with its `rate_interval` by images and seeds.

    A row without a finite error is a failure.
    """
    return rate_interval(
        [math.isfinite(row.mse) and row.mse <= success_mse for row in rows],
        images=[row.image for row in rows],
        seeds=[row.seed for row in rows],
    )


def _draw(
    axis: Axes, rows: Sequence[Row], counts: Sequence[int], levels: Sequence[float], success_mse: float
) -> AxesImage:
    groups = grouped(rows, lambda row: (row.m, row.sigma))
    fields = {place: success_rate(own, success_mse) for place, own in groups.items()}
    shares = [[fields[m, s].estimate if (m, s) in fields else math.nan for m in counts] for s in levels]
    drawn = axis.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, origin="lower", aspect="auto")
    axis.set_xticks(range(len(counts)), [f"{m}" for m in counts], rotation=45 if len(counts) > 6 else 0)
    axis.set_yticks(range(len(levels)), [f"{sigma:g}" for sigma in levels])
    if len(counts) > MOST_WRITTEN:
        return drawn
    for (m, sigma), rate in fields.items():
        text = f"{100 * rate.estimate:.0f}\n{100 * rate.low:.0f}-{100 * rate.high:.0f}"
        place = counts.index(m), levels.index(sigma)
        axis.text(*place, text, fontsize=6.5, ha="center", va="center", color=on_map(rate.estimate))
    return drawn


def on_map(share: float) -> str:
    """What can be read on the colour map at that share of its range: never `INK`, which changes with the page."""
    return "#111111" if share > 0.5 else "#f4f4f4"
