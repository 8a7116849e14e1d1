"""Whether tickets carry over: a heat map of tickets against what they are used for."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from matplotlib.figure import Figure

from cs_lip.evaluation.statistics import Interval
from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.groups import grouped, mean_of, method_names, method_of
from cs_lip.report.phase import on_map
from cs_lip.report.style import COLOUR_MAP, new_figure, tidy

Across = Literal["task", "image"]

MOST_ACROSS = 20
"""Images whose names and numbers can still be read side by side."""


MEANS: dict[Across, str] = {
    "task": "Mean PSNR in dB over images and seeds, with its 95 % bootstrap interval over both.",
    "image": "Mean PSNR in dB over tasks and seeds, with its 95 % bootstrap interval over several seeds: the tasks are "
    "chosen, not drawn.",
}
"""What stands in the fields of a map."""


def transfer_figure(rows: Sequence[Row], across: Across) -> Figure:
    """Mean PSNR of every method (downwards) on every task or on every image (across).

    A field has the mean and below it the 95 % bootstrap interval; `MEANS` says of what.

    Raises:
        ValueError: a task was measured in several ways, or no row has a finite PSNR.
    """
    levels_of_noise = {(row.sigma, row.outliers) for row in rows}
    if len(levels_of_noise) > 1 or len({(row.operator, row.m) for row in rows}) > len({row.operator for row in rows}):
        raise ValueError(
            "a map of tickets needs one noise, one share of outliers and one number of measurements a task, got "
            "several; try a map for each"
        )
    names = method_names(rows)
    target: Callable[[Row], str] = attrgetter("operator" if across == "task" else "image")
    targets = list(dict.fromkeys(map(target, rows)))
    groups = grouped(rows, lambda row: (method_of(row), target(row)))
    means = {place: mean for place, own in groups.items() if (mean := mean_of(own, "psnr")) is not None}
    if not means:
        raise ValueError("no row has a finite PSNR, so there is nothing to draw; try images whose truth is known")
    levels = [mean.estimate for mean in means.values()]
    low, high = min(levels), max(levels)
    longest = max(map(len, names.values()))
    figure = new_figure(1.2 + 0.075 * longest + 0.95 * len(targets), 1.4 + 0.55 * len(names))
    axis = figure.subplots()
    values = [[_level(means.get((method, each))) for each in targets] for method in names]
    drawn = axis.imshow(values, cmap=COLOUR_MAP, aspect="auto", vmin=low, vmax=high)
    tidy(axis, "", across, "")
    axis.grid(visible=False)
    axis.set_xticks(range(len(targets)), targets, rotation=30, ha="right", parse_math=False)
    axis.set_yticks(range(len(names)), list(names.values()), parse_math=False)
    for (method, each), mean in means.items():
        share = (mean.estimate - low) / (high - low) if high > low else 1.0
        place = targets.index(each), list(names).index(method)
        axis.text(*place, _text(mean), fontsize=7, ha="center", va="center", color=on_map(share))
    bar = figure.colorbar(drawn, ax=axis, fraction=0.04, pad=0.01)
    bar.set_label("PSNR (dB)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _level(mean: Interval | None) -> float:
    return math.nan if mean is None else mean.estimate


def _text(mean: Interval) -> str:
    spread = "" if math.isnan(mean.low) else f"\n{mean.low:.1f}-{mean.high:.1f}"
    return f"{mean.estimate:.1f}{spread}"
