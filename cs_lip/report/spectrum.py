"""What measurements see of a generator: the singular values of A J."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cs_lip.report.style import INK, legend_name, look, new_figure, tidy

MOST_LINES = 12


def spectrum_figure(spectra: Tensor, names: Sequence[str], seen: Sequence[int], noise: float) -> Figure:
    """The singular values of A J at some latents, J = dG/dz, and how many of the directions the measurements see.

    Args:
        spectra: ``(latents, min(m, k))``, descending; see `cs_lip.evaluation.measured_spectrum.measured_spectra`.
        names: one a latent.
        seen: how many directions are seen at each latent.
        noise: standard deviation of the noise, the line below which a direction is lost in it; 0 for none.
    """
    figure = new_figure(7.5, 4.2)
    axis = figure.subplots()
    axis.set_yscale("log")
    floor = float(spectra.max()) * 1e-8
    numbers = np.arange(1, spectra.shape[1] + 1)
    for number, (values, name, count) in enumerate(zip(spectra[:MOST_LINES].tolist(), names, seen, strict=False)):
        shape = look(number)
        label = legend_name(f"{name}: {count} of {len(values)} seen")
        axis.plot(
            numbers, np.maximum(values, floor), color=shape.color, linestyle=shape.linestyle, linewidth=1.5, label=label
        )
    if noise > 0:
        axis.axhline(noise, color=INK, linewidth=1, linestyle=":", label="noise")
    tidy(axis, "", "latent direction", "change of the measurements per unit of z")
    legend = axis.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
