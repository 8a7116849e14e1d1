"""How sparse a ticket may be: PSNR against density."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.curves import MOST_PANELS, label_numbers, plot_means
from cs_lip.report.groups import condition_names, condition_of, grouped, mean_of
from cs_lip.report.style import INK, add_legend, look, new_figure, tidy

DASHES = (
    (0, (1, 2)),
    (0, (4, 2)),
    (0, (8, 2)),
    (0, (4, 2, 1, 2)),
    (0, (8, 2, 1, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
    (0, (1, 5)),
)
"""Of the lines across: every one looks different, up to seven."""


@dataclass(frozen=True, order=True)
class Family:
    """Tickets of one criterion and granularity at one number of measurements: one line."""

    m: int
    solver: str
    fidelity: str
    prior: str
    granularity: str
    criterion: str


def density_figure(rows: Sequence[Row]) -> Figure:
    """Mean PSNR against density (logarithmic), a line a `Family` of tickets, a panel a condition.

    Densities are taken with 3 digits: what two tickets of one target differ by beyond them is rounding of the mask.
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
    families = sorted({_family(row) for row in rows if row.ticket})
    for condition, axis in zip(shown, axes, strict=False):
        _draw(axis, panels[condition], families)
        tidy(axis, conditions[condition], "density (fraction of the weights kept)", "PSNR (dB)")
        axis.label_outer()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    add_legend(figure, axes[0])
    return figure


def has_curve(rows: Sequence[Row]) -> bool:
    """Whether one family of tickets has several densities under one condition."""
    groups = grouped([row for row in rows if row.ticket], lambda row: (condition_of(row), _family(row)))
    return any(len({_density(row) for row in own}) > 1 for own in groups.values())


def _family(row: Row) -> Family:
    return Family(row.m, row.solver, row.fidelity, row.prior, row.granularity, row.criterion)


def _density(row: Row) -> float:
    return float(f"{row.density:.3g}")


def _draw(axis: Axes, rows: Sequence[Row], families: Sequence[Family]) -> None:
    axis.set_xscale("log")
    for number, family in enumerate(families):
        dense = replace(family, granularity="", criterion="")
        own = [replace(row, density=_density(row)) for row in rows if _family(row) in (family, dense)]
        shape = look(number)
        plot_means(axis, own, "density", "psnr", shape)
        axis.plot([], [], label=_name(family, families), linewidth=1.6, markersize=5, **vars(shape))
    across = grouped([row for row in rows if not row.prior], _rival)
    for number, ((solver, fidelity, m), rivals) in enumerate(across.items()):
        if (mean := mean_of(rivals, "psnr")) is not None:
            style = DASHES[number % len(DASHES)]
            if not math.isnan(mean.low):
                axis.axhspan(mean.low, mean.high, color=INK, alpha=0.08, linewidth=0)
            named = f", {fidelity}" if len({row.fidelity for row in rows}) > 1 else ""
            axis.axhline(mean.estimate, color=INK, linewidth=1, linestyle=style, label=f"{solver}, m = {m}{named}")
    label_numbers(axis, sorted({_density(row) for row in rows if row.prior}))


def _rival(row: Row) -> tuple[str, str, int]:
    return row.solver, row.fidelity, row.m


def _name(family: Family, families: Sequence[Family]) -> str:
    kind = "" if {each.granularity for each in families} == {"weight"} else f" ({family.granularity}s)"
    parts = [f"{family.criterion or 'tickets'}{kind}", f"m = {family.m}"]
    parts += [
        getattr(family, name)
        for name in ("solver", "fidelity", "prior")
        if len({getattr(each, name) for each in families}) > 1
    ]
    return ", ".join(parts)
