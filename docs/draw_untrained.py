"""Draw the picture of the untrained networks: ``python docs/draw_untrained.py`` writes docs/images/untrained.png.

A slice of the Shepp-Logan phantom with a smooth phase, seen by four coils and undersampled as in docs/untrained.md, and
recovered by a ConvDecoder. It takes some minutes.
"""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from skimage.data import shepp_logan_phantom
from torch import Tensor

from cs_lip.evaluation.images import to_tensor
from cs_lip.evaluation.metrics import psnr
from cs_lip.operators import MultiCoilFourier, RealImaginary, birdcage_maps
from cs_lip.priors import untrained_network
from cs_lip.recovery import recover
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import stream

SIDE = 64
COILS = 4
NOISE = 0.01
DARK = 0.05
"""The magnitude of the truth below which a phase says nothing, and is left out."""


def slice_with_phase(side: int) -> Tensor:
    """The phantom as a complex image ``(side, side)``, of magnitudes in [0, 1]."""
    magnitude = to_tensor(Image.fromarray(shepp_logan_phantom().astype(np.float32)), (1, side, side))[0]
    axis = torch.linspace(-1, 1, side)
    return magnitude * torch.exp(1j * (1.5 * axis[:, None] + axis**2))


def every_fourth_line(side: int) -> Tensor:
    """Booleans ``(side, side)``, zero frequency first: every fourth column, and those around zero."""
    lines = torch.zeros(side, dtype=torch.bool)
    lines[::4] = True
    lines[:2] = lines[-2:] = True
    return lines.expand(side, side)


def recovered(B: MultiCoilFourier, y: Tensor) -> tuple[Tensor, str]:
    """The complex image that a ConvDecoder fits to noisy measurements, and where the fit stopped."""
    R = RealImaginary((2, SIDE, SIDE))
    network = untrained_network("conv_decoder", (2, SIDE, SIDE), channels=64, layers=6)
    shifted = (y + B(R(torch.ones(2, SIDE, SIDE))))[None]
    found = recover(2 * (B @ R), shifted, network, solver=UntrainedFit(iterations=1500), noise=NOISE)
    note = found.notes[0]
    return torch.complex(*(2 * found.images[0] - 1)), f"{note['iteration']} of {note['iterations']}"


def main() -> None:
    """Measure, recover, draw, and print the numbers."""
    truth, mask = slice_with_phase(SIDE), every_fourth_line(SIDE)
    B = MultiCoilFourier(birdcage_maps(COILS, (SIDE, SIDE)), mask, in_is_complex=True)
    y = B(truth)
    parts = torch.randn(*y.shape, 2, generator=stream(0, "noise"))
    y = y + NOISE * torch.view_as_complex(parts)
    image, stop = recovered(B, y)
    panels = {"truth": truth, "zero-filled": B.adjoint(y), "least squares": B.pinv(y), "ConvDecoder": image}
    figure = Figure(figsize=(9.2, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels))
    for (upper, lower), (name, panel) in zip(axes.T, panels.items(), strict=True):
        level = psnr(panel.abs()[None].clamp(0, 1), truth.abs()[None])
        print(f"{name}: {level:.2f} dB")
        upper.imshow(panel.abs().numpy(), cmap="gray", vmin=0, vmax=1)
        upper.set_title(name + (f": {level:.1f} dB" if math.isfinite(level) else ""), fontsize=10)
        phase = np.ma.masked_where(truth.abs().numpy() < DARK, panel.angle().numpy())
        lower.imshow(phase, cmap="twilight", vmin=-math.pi, vmax=math.pi)
        for axis in (upper, lower):
            axis.set_xticks([])
            axis.set_yticks([])
    axes[0, 0].set_ylabel("magnitude")
    axes[1, 0].set_ylabel("phase")
    share = float(mask.float().mean())
    figure.suptitle(f"Shepp-Logan, {COILS} coils, {share:.0%} of the frequencies, noise {NOISE}", fontsize=11)
    figure.savefig(Path(__file__).parent / "images" / "untrained.png", dpi=130)
    print(f"stopped at iteration {stop}")


if __name__ == "__main__":
    main()
