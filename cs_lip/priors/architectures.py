"""The architectures by name, and building them from blueprints."""

from collections.abc import Callable

import torch

from cs_lip.priors.blueprint import Blueprint, fill
from cs_lip.priors.dcgan import DCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.generator import Generator
from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.stylegan2 import StyleGAN2

ARCHITECTURES: dict[str, Callable[..., Generator]] = {
    "dcgan": DCGAN,
    "pggan": PGGAN,
    "decoder": Decoder,
    "stylegan2": StyleGAN2,
}
"""Every class that `build` can make; its arguments are JSON-able."""


def build(blueprint: Blueprint) -> Generator:
    """The generator of a blueprint, on the CPU and in evaluation mode.

    Raises:
        ValueError: an unknown architecture, settings that it does not take, or weights that do not fit.
    """
    make = ARCHITECTURES.get(blueprint.architecture)
    if make is None:
        raise ValueError(
            f"there is no architecture {blueprint.architecture!r:.40}; try one of {', '.join(ARCHITECTURES)}"
        )
    try:
        with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
            generator = make(**blueprint.settings)
    except (TypeError, RuntimeError, OverflowError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ValueError(
            f"the settings {sorted(blueprint.settings)} do not make a {blueprint.architecture} ({reason}); "
            "try the file as it was written"
        ) from None
    return fill(generator, blueprint.state, f"a {blueprint.architecture} of these settings")
