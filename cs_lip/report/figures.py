"""The picture of a run: one row for each image."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.run import Run
from cs_lip.report.style import save_png
from cs_lip.report.text import decibels

MOST_ROWS = 24
CELL_INCHES = 1.9
LEFT_INCHES, TOP_INCHES = 1.5, 0.85


def save_recovery_figure(path: Path, run: Run) -> None:
    """Draw `recovery_figure` into a PNG, atomically."""
    save_png(path, recovery_figure(run))


def recovery_figure(run: Run) -> Figure:
    """Truth, least squares, recovery and error map of every image, one row each (the first `MOST_ROWS`).

    Least squares is the image of least norm that explains the measurements, clipped to [0, 1]. The error map is the
    mean absolute difference over the channels, on one scale for all rows. Without a truth only the two middle columns
    are drawn. Where the uncertainty was asked for, the pixels' standard deviations stand before the error, as their
    mean over the channels, on a scale of their own; an image without them has an empty place.
    """
    shown = min(len(run.measurements.names), MOST_ROWS)
    maps = _maps(run, shown)
    titles = [*([] if run.truth is None else ["truth"]), "least squares", "recovery", *maps]
    margin = 0.75 if maps else 0.15
    width = LEFT_INCHES + CELL_INCHES * len(titles) + margin
    height = TOP_INCHES + CELL_INCHES * shown
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(shown, len(titles), squeeze=False)
    left, right = LEFT_INCHES / width, 1 - margin / width
    figure.subplots_adjust(left, 0.015, right, 1 - TOP_INCHES / height, wspace=0.04, hspace=0.14)
    for row in range(shown):
        _label(axes[row, 0], run, row)
        pictures = [run.least_squares[row], run.recovery.images[row]]
        if run.truth is not None:
            pictures.insert(0, run.truth[row])
        for axis, picture, title in zip(axes[row], pictures, titles, strict=False):
            show_image(axis, picture)
            if run.truth is not None and title != "truth":
                _caption(axis, _decibels(picture, run.truth[row]))
        for axis, values in zip(axes[row, len(pictures) :], maps.values(), strict=True):
            drawn = axis.imshow(values[row], cmap="magma", vmin=0, vmax=_largest(values))
            _bare(axis)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10, pad=14)
    if maps:
        first = axes[0, -1].get_position()
        bar = figure.add_axes((right + 0.1 / width, first.y0, 0.1 / width, first.height))
        figure.colorbar(drawn, cax=bar).ax.tick_params(labelsize=7)
    figure.suptitle(_headline(run, shown), fontsize=10, y=1 - 0.12 / height, va="top")
    return figure


def _maps(run: Run, shown: int) -> dict[str, NDArray[np.float32]]:
    """By their titles the maps ``(shown, height, width)``, NaN where there is nothing to show. The last has its scale
    beside it, one before it in its title.
    """
    maps = {}
    if run.sd is not None:
        deviations: NDArray[np.float32] = run.sd[:shown].mean(1).cpu().numpy()
        maps[f"sd, 0 to {_largest(deviations):.1g}"] = deviations
    if run.truth is not None:
        maps["error"] = (run.recovery.images[:shown] - run.truth[:shown]).abs().mean(1).cpu().numpy()
    return maps


def _largest(values: NDArray[np.float32]) -> float:
    """Of the finite values, but never so little that rounding would show."""
    return float(values[np.isfinite(values)].max(initial=1e-3))


def _label(axis: Axes, run: Run, row: int) -> None:
    text = f"{run.measurements.names[row]}\n({run.measurements.sources[row]})\n{run.recovery.status[row].value}"
    axis.text(-0.06, 0.5, text, fontsize=8, ha="right", va="center", transform=axis.transAxes, parse_math=False)


def show_image(axis: Axes, picture: Tensor) -> None:
    """An image ``(1 or 3, height, width)`` in [0, 1], without ticks."""
    pixels = picture.detach().clamp(0, 1).cpu().numpy().transpose(1, 2, 0)
    axis.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=1)
    _bare(axis)


def _caption(axis: Axes, text: str) -> None:
    axis.text(0.5, 1.015, text, fontsize=7, ha="center", va="bottom", transform=axis.transAxes)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _decibels(picture: Tensor, truth: Tensor) -> str:
    return decibels(psnr(picture.clamp(0, 1).cpu(), truth.cpu()))


def _headline(run: Run, shown: int) -> str:
    total = len(run.measurements.names)
    config = run.config
    pixels = math.prod(run.recovery.images.shape[1:])
    cut = f", first {shown} of {total} images" if shown < total else ""
    return (
        f"{config['measurements']} of {pixels} measurements ({config['operator']}), noise {config['noise']:g}, "
        f"{config['solver']}{cut}"
    )
