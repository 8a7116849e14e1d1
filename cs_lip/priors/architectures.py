"""The architectures by name, and building them from blueprints."""

from collections.abc import Callable, Mapping
from typing import Any

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
    generator = generator_shapes(blueprint.architecture, blueprint.settings)
    return fill(generator, blueprint.state, f"a {blueprint.architecture} of these settings")


def generator_shapes(architecture: str, settings: Mapping[str, Any]) -> Generator:
    """The generator on the device ``meta``, where tensors have shapes but no numbers and take no memory.

    PyTorch's initial weights then cost neither memory nor global random numbers.

    Raises:
        ValueError: as `build`, but for the weights.
    """
    make = ARCHITECTURES.get(architecture)
    if make is None:
        raise ValueError(f"there is no architecture {architecture!r:.40}; try one of {', '.join(ARCHITECTURES)}")
    try:
        with torch.device("meta"):
            return make(**settings)
    except (TypeError, RuntimeError, OverflowError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ValueError(
            f"the settings {sorted(settings)} do not make a {architecture} ({reason}); try the file as it was written"
        ) from None
