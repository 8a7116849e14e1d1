"""The figures of the benchmark of tickets: over densities, and over how much of the generator's range is kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from results_files import Row
from tickets_report import DRAWS, PICTURES, below_dense, levels, mean

from cs_lip.evaluation.statistics import bootstrap_interval

Rows = Mapping[str, Row]

BANDED = ("magnitude", "random")
"""Whose intervals are drawn: those of all would hide each other."""

ASIDE = 1.04
"""The factor between densities at which methods of one density alone are drawn."""

COLOURS = ("#000000", "#7F7F7F", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv<>XPd*hp"
DENSITIES = {0.5: "#440154", 0.3: "#3B528B", 0.2: "#31688E", 0.1: "#35B779", 0.05: "#E6B800"}
"""A colour for each density where the markers tell methods."""


def figure(whole: dict[str, Any]) -> Figure:
    """PSNR against density: real pictures above, as a difference to the dense generator, its draws below; a column for
    every number of measurements; intervals of 95 % of what is pruned by magnitude and at random."""
    rows, counts = whole["rows"], whole["configuration"]["scale"]["measurements"]
    methods = _methods(rows)
    drawing = Figure(figsize=(4.2 * len(counts) + 2.2, 7.5), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(2, len(counts), sharex=True, sharey="row", squeeze=False)
    for column, m in enumerate(counts):
        for place, method in enumerate(methods):
            _curve(axes[0, column], rows, method, place, m, relative=True)
            _curve(axes[1, column], rows, method, place, m, relative=False)
        if "dense" in rows:
            axes[0, column].axhline(0, color="black", linewidth=0.8)
            axes[0, column].plot([], [], color="black", linewidth=0.8, label="dense")
        axes[0, column].set_title(f"m = {m:,}", fontsize=11)
        axes[1, column].set_xlabel("density")
    if "dense" in rows:
        _mark_dense(axes[1], {m: mean(rows, "dense", 1.0, DRAWS, m) for m in counts})
    axes[0, 0].set_ylabel("real pictures: dB over the dense generator")
    axes[1, 0].set_ylabel("draws of the dense generator: PSNR in dB")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=9)
    return drawing


def _mark_dense(line: Sequence[Axes], levels: Mapping[int, float]) -> None:
    """The dense generator's level on its own draws: a line, or a number where it is far above all tickets, which would
    be squeezed together."""
    for axis, level in zip(line, levels.values(), strict=True):
        if level <= axis.get_ylim()[1]:
            axis.axhline(level, color="black", linewidth=0.8)
        else:
            axis.text(0.02, 0.97, f"dense: {level:.1f} dB", transform=axis.transAxes, va="top", fontsize=9)


def _curve(axis: Axes, rows: Rows, method: str, place: int, m: int, *, relative: bool) -> None:
    """A method over densities."""
    found = sorted({float(cell.split("/")[1]) for cell in rows if cell.startswith(f"{method}/")})
    bands = []
    for density in found:
        kind = PICTURES if relative else DRAWS
        ours, dense = levels(rows, method, density, kind, m), levels(rows, "dense", 1.0, kind, m)
        if relative and not dense:
            return
        images, seeds = zip(*ours, strict=True)
        values = [value - (dense[target, 0] if relative else 0) for (target, _), value in ours.items()]
        bands.append(bootstrap_interval(values, images=images, seeds=seeds))
    if len(found) == 1:  # beside one another, where all have the same density
        found = [found[0] * ASIDE ** (place % 9 - 4)]
    look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linewidth": 1.3}
    look["linestyle"] = "-" if place < len(COLOURS) else "--"
    means = [band.estimate for band in bands]
    axis.plot(found, means, marker=MARKERS[place], markersize=5, label=method, **look)
    if method in BANDED:
        spread = [[band.estimate - band.low for band in bands], [band.high - band.estimate for band in bands]]
        axis.errorbar(found, means, spread, fmt="none", ecolor=look["color"], elinewidth=1, capsize=3, alpha=0.7)
    axis.set_xscale("log")
    axis.set_xticks((0.05, 0.1, 0.2, 0.5), ("0.05", "0.1", "0.2", "0.5"))
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def range_figure(whole: dict[str, Any]) -> Figure:
    """What is gained on real pictures against the PSNR of the dense generator's draws, a mark for every ticket; a
    column for every number of measurements."""
    rows, counts = whole["rows"], whole["configuration"]["scale"]["measurements"]
    drawing = Figure(figsize=(4.2 * len(counts) + 2.2, 4.2), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    methods, densities = _methods(rows), [density for density in DENSITIES if _at(rows, density)]
    for axis, m in zip(axes, counts, strict=True):
        for density in densities:
            for method in _at(rows, density):
                loss = below_dense(rows, method, density, m)
                if loss is not None:
                    marker, colour = MARKERS[methods.index(method)], DENSITIES[density]
                    kept = mean(rows, method, density, DRAWS, m)
                    axis.plot(kept, -loss.estimate, linestyle="none", marker=marker, color=colour, markersize=6)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"m = {m:,}", fontsize=11)
        axis.set_xlabel("draws of the dense generator: PSNR in dB")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("real pictures: dB over the dense generator")
    shapes = [Line2D([], [], linestyle="none", marker=MARKERS[place], color="#555555") for place in range(len(methods))]
    patches = [Patch(color=DENSITIES[density]) for density in densities]
    names = [*methods, *(f"density {density:g}" for density in densities)]
    drawing.legend([*shapes, *patches], names, loc="outside right upper", fontsize=9)
    return drawing


def _methods(rows: Rows) -> list[str]:
    return list(dict.fromkeys(cell.split("/")[0] for cell in rows if cell.count("/") == 2))


def _at(rows: Rows, density: float) -> list[str]:
    """The methods that were measured at a density."""
    return _methods({cell: row for cell, row in rows.items() if f"/{density:g}/" in cell})
