"""How a recovery came about: what was left unexplained, iteration by iteration."""

import math
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cs_lip.evaluation.run import Run
from cs_lip.report.style import INK, MARKERS, Look, add_legend, legend_name, look, new_figure, tidy

MOST_LINES = 12


def convergence_figure(run: Run) -> Figure:
    """|A x - y| / |y| of every image (the first `MOST_LINES`) against the iterations that worked on it, logarithmic.

    A line is broken, and has a marker, where another phase of the solver begins: a phase may look at other measurements
    than the one before, or begin anew. The dotted line is what the noise alone would leave of the first image,
    sigma sqrt(m) / |y|.

    Raises:
        ValueError: the run has no history.
    """
    history = run.recovery.history
    if not history:
        raise ValueError("the run has no history, so there is nothing to draw; try a solver that works by iterations")
    phases = list(dict.fromkeys(record.phase for record in history))
    markers = {phase: MARKERS[number % len(MARKERS)] for number, phase in enumerate(phases)}
    figure = new_figure(7.5, 4.4)
    axis = figure.subplots()
    axis.set_yscale("log")
    for image, name in enumerate(run.measurements.names[:MOST_LINES]):
        points = [
            (record.phase, record.relative_residual[image])
            for record in history
            if math.isfinite(record.relative_residual[image])
        ]
        _draw(axis, points, look(image), markers)
        axis.plot(
            [], [], color=look(image).color, linestyle=look(image).linestyle, linewidth=1.5, label=legend_name(name)
        )
    for phase, marker in markers.items():
        axis.plot([], [], color=INK, marker=marker, linestyle="none", markersize=5, label=f"begin of {phase}")
    if (level := _noise_level(run)) > 0:
        axis.axhline(level, color=INK, linewidth=1, linestyle=":", label="what the noise leaves")
    tidy(axis, "", "iteration", "relative residual |A x - y| / |y|")
    add_legend(figure, axis)
    return figure


def _draw(axis: Axes, points: list[tuple[str, float]], shape: Look, markers: dict[str, str]) -> None:
    begin = 1
    for phase, group in groupby(points, key=lambda point: point[0]):
        values = [value for _, value in group]
        numbers = range(begin, begin + len(values))
        axis.plot(numbers, values, color=shape.color, linestyle=shape.linestyle, linewidth=1.3)
        axis.plot(begin, values[0], color=shape.color, marker=markers[phase], markersize=5)
        begin += len(values)


def _noise_level(run: Run) -> float:
    values = run.measurements.values[0]
    size = float(values.abs().square().sum().sqrt())
    count = values.numel() * (2 if values.is_complex() else 1)
    return run.measurements.noise * math.sqrt(count) / size if size > 0 else 0.0
