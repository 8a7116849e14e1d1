"""Draw the picture of the operators' patterns: ``python docs/draw_operators.py`` writes docs/images/operators.png."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from cs_lip.evaluation.pictures import bundled_photographs
from cs_lip.operators import (
    BlockDiagonal,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    LinearOperator,
    LogNormal,
    Mask,
    MatrixOperator,
    PartialCirculant,
    Rademacher,
    SinglePixel,
    SparseRandom,
    StudentT,
    SubsampledDCT,
    SubsampledFourier,
    SubsampledHadamard,
    bernoulli_mask,
    birdcage_maps,
    box_mask,
    gaussian_kernel,
    motion_kernel,
)

SIDE = 64
SHAPE = (SIDE, SIDE)
COLUMNS = 6


def row(A: LinearOperator, index: int = 0) -> Tensor:
    """The pattern with which one measurement weighs the image: a row of A, as an image."""
    unit = torch.zeros(A.out_shape)
    unit.view(-1)[index] = 1
    return A.adjoint(unit)


def centred(mask: Tensor) -> Tensor:
    """A mask over frequencies with zero frequency in the middle."""
    return torch.fft.fftshift(mask, dim=(-2, -1)).float()


def panels(photograph: Tensor) -> dict[str, Tensor]:
    """Name -> picture: rows of A, masks, or what the operator makes of the photograph."""
    rays = MatrixOperator(x_rays(), SHAPE)
    block = BlockDiagonal(SHAPE, Gaussian((16, 16), 8, seed=0))
    return {
        "Gaussian: a row": row(Gaussian(SHAPE, 8, seed=0)),
        "Rademacher: a row": row(Rademacher(SHAPE, 8, seed=0)),
        "StudentT(3): a row": row(StudentT(SHAPE, 8, seed=0, degrees_of_freedom=3)),
        "LogNormal(1): a row": row(LogNormal(SHAPE, 8, seed=0, sigma=1.0)),
        "SparseRandom, 8 a column: a row": row(SparseRandom(SHAPE, 100, seed=0, nonzeros_per_column=8)),
        "MatrixOperator, X-rays: a row": row(rays, 40),
        "Fourier, uniform": centred(SubsampledFourier(SHAPE, 800, seed=0).mask),
        "Fourier, centre": centred(SubsampledFourier(SHAPE, 800, seed=0, pattern="centre").mask),
        "Fourier.lines(4, 0.08)": centred(
            SubsampledFourier.lines(SHAPE, acceleration=4, centre_fraction=0.08, seed=0).mask
        ),
        "Fourier.radial(12)": centred(SubsampledFourier.radial(SHAPE, spokes=12).mask),
        "Fourier.from_mask": centred(SubsampledFourier.from_mask(disc()).mask),
        "MultiCoilFourier: maps of 2 coils": coil_pictures(birdcage_maps(8, SHAPE)),
        "SubsampledHadamard: a row": row(SubsampledHadamard(SHAPE, 8, seed=0), 1),
        "SubsampledDCT: a row": row(SubsampledDCT(SHAPE, 8, seed=0), 1),
        "PartialCirculant: a row": row(PartialCirculant(SHAPE, 8, seed=0)),
        "SinglePixel: row 12": row(SinglePixel(SHAPE, 32), 12),
        "SinglePixel, 0/1: row 31": row(SinglePixel(SHAPE, 32, patterns="0/1"), 31),
        "BlockDiagonal: a row": row(block, 50),
        "Identity": Identity(SHAPE)(photograph),
        "Mask(box_mask), adjoint": Mask(box_mask(SHAPE, 28)).gram(photograph),
        "Mask(bernoulli_mask), adjoint": Mask(bernoulli_mask(SHAPE, keep=0.3, seed=0)).gram(photograph),
        "Downsample by 4, bicubic": Downsample(SHAPE, 4)(photograph),
        "Blur, Gaussian, circular": Blur(SHAPE, gaussian_kernel(2))(photograph),
        "Blur, motion, reflect": Blur(SHAPE, motion_kernel(15, 30), border="reflect")(photograph),
    }


def x_rays() -> np.ndarray:
    """A matrix of one's own: sums along parallel lines, as a scanner measures them at one angle."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    across = np.cos(np.pi / 6) * x + np.sin(np.pi / 6) * y
    places = np.linspace(across.min(), across.max(), SIDE)
    return (np.abs(across.ravel() - places[:, None]) < 1).astype(np.float32)


def disc() -> Tensor:
    """The low frequencies, zero frequency first."""
    frequency = torch.fft.fftfreq(SIDE)
    return torch.hypot(frequency[:, None], frequency[None, :]) < 0.2


def coil_pictures(maps: Tensor) -> Tensor:
    """The magnitudes of two coils' maps, side by side."""
    return torch.cat([maps[0].abs(), maps[3].abs()], dim=1)


def main() -> None:
    """Draw all panels into one picture."""
    photograph = next(p.pixels for p in bundled_photographs((1, *SHAPE)) if p.name == "astronaut")[0]
    pictures = panels(photograph)
    rows = -(-len(pictures) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, 2.35 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS).ravel()
    for ax, (name, picture) in zip(axes, pictures.items(), strict=False):
        limit = float(picture.abs().quantile(0.995)) or 1.0
        signed = "row" in name and bool((picture < 0).any())
        ax.imshow(picture.numpy(), cmap="RdBu_r" if signed else "gray", vmin=-limit if signed else 0, vmax=limit)
        ax.set_title(name, fontsize=8)
    for ax in axes:
        ax.set_axis_off()
    figure.savefig(Path(__file__).parent / "images" / "operators.png", dpi=90)


if __name__ == "__main__":
    main()
