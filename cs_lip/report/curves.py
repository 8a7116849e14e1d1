"""The curve of the field: recovery error against the number of measurements."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.groups import Method, condition_names, condition_of, grouped, mean_of, method_names, method_of
from cs_lip.report.style import Look, add_legend, look, new_figure, tidy

MOST_PANELS = 6
LEAST_ERROR = 1e-12
"""Errors below it are drawn at it; a logarithm has no zero."""


def error_figure(rows: Sequence[Row]) -> Figure:
    """Mean squared error per pixel against measurements, both axes logarithmic, a line a method and a panel a condition
    (the first `MOST_PANELS`).

    Bands are 95 % bootstrap intervals of the mean over images and seeds; a point without one has a single image and
    seed. Rows without a finite error are left out.
    """
    conditions, names = condition_names(rows), method_names(rows)
    looks = {method: look(number) for number, method in enumerate(names)}
    panels = grouped(rows, condition_of)
    shown = list(conditions)[:MOST_PANELS]
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure = new_figure(max(6.5, 4.3 * columns), 3.6 * lines + 0.22 * len(names) / 2 + 0.5)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for condition, axis in zip(shown, axes, strict=False):
        _draw(axis, panels[condition], names, looks)
        tidy(axis, conditions[condition], "measurements m", "mean squared error per pixel")
        axis.label_outer()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    _name_all(axes[0], names, looks)
    add_legend(figure, axes[0])
    return figure


def _draw(axis: Axes, rows: Sequence[Row], names: Mapping[Method, str], looks: Mapping[Method, Look]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    by_method = grouped(rows, method_of)
    for method in names:
        if method in by_method:
            plot_means(axis, by_method[method], "m", "mse", looks[method], least=LEAST_ERROR)
    label_numbers(axis, sorted({row.m for row in rows}))


def plot_means(axis: Axes, rows: Sequence[Row], x: str, y: str, shape: Look, *, least: float | None = None) -> None:
    """The means of column ``y`` against column ``x`` with their band, none of it below ``least``."""
    groups = sorted(grouped(rows, lambda row: float(getattr(row, x))).items())
    points = [(at, mean) for at, group in groups if (mean := mean_of(group, y)) is not None]

    def ends(name: str) -> list[float]:
        values = [float(getattr(mean, name)) for _, mean in points]
        return values if least is None else [max(value, least) for value in values]

    where = [at for at, _ in points]
    axis.plot(where, ends("estimate"), markersize=5, linewidth=1.6, **vars(shape))
    axis.fill_between(where, ends("low"), ends("high"), color=shape.color, alpha=0.18, linewidth=0)


def label_numbers(axis: Axes, values: Sequence[float], most: int = 8) -> None:
    """The numbers that were measured as ticks of a logarithmic axis, about ``most`` of them, evenly taken."""
    step = -(-len(values) // most)
    axis.set_xticks(values[::step])
    # Counts are told whole; densities, which are hardly ever round, are not.
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value > 1 else f"{value:.2g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _name_all(axis: Axes, names: Mapping[Method, str], looks: Mapping[Method, Look]) -> None:
    """Entries for the legend of methods that this panel may lack."""
    for method, name in names.items():
        axis.plot([], [], label=name, linewidth=1.6, markersize=5, **vars(looks[method]))
