"""The picture of an inspected generator."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from cs_lip.evaluation.inspection import Inspection, Representation
from cs_lip.report.figures import show_image
from cs_lip.report.style import save_png
from cs_lip.report.text import decibels

MOST_PICTURES = 8
LEAST_COLUMNS = 6


def save_inspection_figure(path: Path, inspection: Inspection, title: str) -> None:
    """Draw `inspection_figure` into a PNG, atomically."""
    save_png(path, inspection_figure(inspection, title))


def inspection_figure(inspection: Inspection, title: str) -> Figure:
    """Samples, interpolations, singular values of the Jacobian, and pictures above what the generator makes of them."""
    shown = inspection.representations[:MOST_PICTURES]
    figure = Figure(figsize=(11, 9 if shown else 6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, parse_math=False)
    parts = figure.add_gridspec(3, 2, height_ratios=[2, 3, 4 if shown else 0.01])
    columns = math.ceil(math.sqrt(len(inspection.samples)))
    _show_sheet(figure.add_subplot(parts[:2, 0]), inspection.samples, columns, "samples")
    lines = inspection.interpolations
    _show_sheet(figure.add_subplot(parts[0, 1]), lines.flatten(0, 1), lines.shape[1], "interpolations")
    _plot_spectra(figure.add_subplot(parts[1, 1]), inspection.spectra)
    places = parts[2, :].subgridspec(2, max(len(shown), LEAST_COLUMNS))
    for column, representation in enumerate(shown):
        upper, lower = (figure.add_subplot(places[row, column]) for row in range(2))
        _show_representation(upper, lower, representation)
        if column == 0:
            upper.set_ylabel("given", fontsize=9)
            lower.set_ylabel("nearest image", fontsize=9)
    return figure


def _show_sheet(axis: Axes, images: Tensor, columns: int, title: str) -> None:
    sheet = make_grid(images.detach().cpu(), nrow=columns, padding=1, pad_value=1)
    show_image(axis, sheet)
    axis.set_title(title, fontsize=10)


def _plot_spectra(axis: Axes, spectra: Tensor) -> None:
    numbers = np.arange(1, spectra.shape[1] + 1)
    for index, values in enumerate(spectra.cpu().numpy()):
        axis.semilogy(numbers, np.maximum(values, 1e-9), linewidth=1.2, label=f"latent {index + 1}")
    axis.set_title("singular values of the Jacobian dG/dz", fontsize=10)
    axis.set_xlabel("index", fontsize=9)
    axis.set_ylabel("change of the image per unit of z", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _show_representation(upper: Axes, lower: Axes, found: Representation) -> None:
    show_image(upper, found.picture.pixels)
    upper.set_title(found.picture.name[:16], fontsize=8, parse_math=False)
    show_image(lower, found.image)
    lower.set_title(decibels(found.psnr_db), fontsize=8)
