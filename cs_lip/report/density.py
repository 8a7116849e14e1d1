"""How sparse a ticket may be: PSNR against density."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.curves import MOST_PANELS, label_numbers, plot_means
from cs_lip.report.groups import condition_names, condition_of, grouped, mean_of
from cs_lip.report.style import INK, add_legend, look, new_figure, tidy


@dataclass(frozen=True)
class Family:
    """Tickets of one criterion at one number of measurements: one line."""

    m: int
    solver: str
    prior: str
    criterion: str


def density_figure(rows: Sequence[Row]) -> Figure:
    """Mean PSNR against density (logarithmic), a line a criterion and number of measurements, a panel a condition.

    The dense network is every line's last point, at density 1; solvers without a prior are lines across. Bands are
    95 % bootstrap intervals of the mean over images and seeds.

    Raises:
        ValueError: no row is a ticket's.
    """
    if not any(row.ticket for row in rows):
        raise ValueError("PSNR against density needs rows of tickets, got none; try a sweep with --ticket")
    conditions = condition_names(rows)
    panels = grouped(rows, condition_of)
    shown = list(conditions)[:MOST_PANELS]
    columns = min(len(shown), 3)
    figure = new_figure(max(6.5, 4.3 * columns), 3.6 * -(-len(shown) // columns) + 1.2)
    axes = list(figure.subplots(-(-len(shown) // columns), columns, squeeze=False, sharey=True).flat)
    families = sorted(
        {_family(row) for row in rows if row.ticket}, key=lambda each: (each.m, each.solver, each.prior, each.criterion)
    )
    for condition, axis in zip(shown, axes, strict=False):
        _draw(axis, panels[condition], families)
        tidy(axis, conditions[condition], "density (fraction of the weights kept)", "PSNR (dB)")
        axis.label_outer()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    add_legend(figure, axes[0])
    return figure


def _family(row: Row) -> Family:
    return Family(row.m, row.solver, row.prior, row.criterion)


def _draw(axis: Axes, rows: Sequence[Row], families: Sequence[Family]) -> None:
    axis.set_xscale("log")
    for number, family in enumerate(families):
        own = [row for row in rows if row.ticket and _family(row) == family]
        own += [
            row for row in rows if not row.ticket and _family(row) == Family(family.m, family.solver, family.prior, "")
        ]
        shape = look(number)
        plot_means(axis, own, "density", "psnr", shape)
        axis.plot([], [], label=_name(family, families), linewidth=1.6, markersize=5, **vars(shape))
    for number, ((solver, m), rivals) in enumerate(grouped([row for row in rows if not row.prior], _rival).items()):
        if (mean := mean_of(rivals, "psnr")) is not None:
            style = (0, (1 + number % 4, 2))
            if not math.isnan(mean.low):
                axis.axhspan(mean.low, mean.high, color=INK, alpha=0.08, linewidth=0)
            axis.axhline(mean.estimate, color=INK, linewidth=1, linestyle=style, label=f"{solver}, m = {m}")
    label_numbers(axis, sorted({row.density for row in rows if row.prior}))


def _rival(row: Row) -> tuple[str, int]:
    return row.solver, row.m


def _name(family: Family, families: Sequence[Family]) -> str:
    parts = [f"{family.criterion or 'tickets'}, m = {family.m}"]
    parts += [
        getattr(family, name) for name in ("solver", "prior") if len({getattr(each, name) for each in families}) > 1
    ]
    return ", ".join(parts)
