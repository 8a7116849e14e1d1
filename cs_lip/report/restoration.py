"""The picture of a restoration: before and after."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.run import Run
from cs_lip.files import atomic_path
from cs_lip.report.figures import show_image
from cs_lip.report.style import save_png
from cs_lip.report.text import decibels

PANEL_INCHES = 3.2
TOP_INCHES = 0.75


def save_restoration_figure(path: Path, run: Run, title: str) -> None:
    """Draw `restoration_figure` into a PNG, atomically."""
    save_png(path, restoration_figure(run, title))


def restoration_figure(run: Run, title: str) -> Figure:
    """The first image of a run before (least squares, which is the picture itself where all its pixels were measured)
    and after, and the truth where it is known, with the PSNR of the two."""
    panels = {"before": run.least_squares[0], "after": run.recovery.images[0]}
    if run.truth is not None:
        panels["truth"] = run.truth[0]
    height, width = panels["after"].shape[1:]
    tall = PANEL_INCHES * min(2.0, max(0.4, height / width))
    figure = Figure(figsize=(PANEL_INCHES * len(panels), tall + TOP_INCHES), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, parse_math=False)
    for axis, (name, picture) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        show_image(axis, picture)
        axis.set_title(name + _level(picture, run.truth, name), fontsize=10)
    return figure


def save_picture(path: Path, picture: Tensor) -> None:
    """An image ``(1 or 3, height, width)`` in [0, 1] as a PNG of 8 bits a channel, atomically."""
    pixels = (255 * picture.detach().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")


def _level(picture: Tensor, truth: Tensor | None, name: str) -> str:
    if truth is None or name == "truth":
        return ""
    return f": {decibels(psnr(picture.clamp(0, 1).cpu(), truth[0].cpu()))}"
