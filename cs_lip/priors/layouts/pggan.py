"""The layout in which PGGAN weights circulate: facebookresearch/pytorch_GAN_zoo, ``models/progressive_gan.py``."""

import re
from collections.abc import Mapping

from torch import Tensor

from cs_lip.priors.blueprint import Blueprint

FORMAT, START = "formatLayer.module.weight", "groupScale0.0.module.weight"
DOUBLING = re.compile(r"scaleLayers\.([0-9]{1,3})\.([01])\.module\.(weight|bias)")
RGB = re.compile(r"toRGBLayers\.([0-9]{1,3})\.module\.(weight|bias)")


def is_zoo(state: Mapping[str, Tensor]) -> bool:
    """Whether the format layer and the first convolution have their names."""
    return {FORMAT, START} <= state.keys()


def from_zoo(state: Mapping[str, Tensor]) -> Blueprint:
    """A PGGAN in the layout of pytorch_GAN_zoo, its depths read off the weights.

    The network is taken as fully grown. Of ``toRGBLayers`` only the last is kept, since those of smaller sides draw
    only while the network grows. The state does not say that a network was trained without equalised learning rates
    or ends in tanh, as that project can be told to; its published generators have them and end in a linear layer.

    Raises:
        ValueError: the first layers or the layers of a scale are not there.
    """
    scales = 1 + max((int(match[1]) for name in state if (match := DOUBLING.fullmatch(name))), default=-1)
    firsts = [START, *(f"scaleLayers.{scale}.0.module.weight" for scale in range(scales))]
    for name in (FORMAT, *firsts):
        if name not in state or state[name].dim() < 2:
            raise ValueError(
                f"the weights lack a matrix or kernel under {name!r}, so they are not a whole PGGAN in the layout of "
                "pytorch_GAN_zoo; try the file as its author published it"
            )
    rgb = f"toRGBLayers.{scales}.module.weight"
    settings = {
        "latents": state[FORMAT].shape[1],
        "depths": [state[name].shape[0] for name in firsts],
        "channels": state[rgb].shape[0] if rgb in state and state[rgb].dim() else 3,
    }
    renamed = {_renamed(name, scales): value for name, value in state.items() if not _draws_nothing(name, scales)}
    return Blueprint("pggan", settings, renamed)


def _draws_nothing(name: str, scales: int) -> bool:
    """Whether it is of a layer that gives the colours of a smaller side."""
    match = RGB.fullmatch(name)
    return match is not None and int(match[1]) < scales


def _renamed(name: str, scales: int) -> str:
    """Our name of a weight; what is unknown keeps its own."""
    if match := DOUBLING.fullmatch(name):
        return f"doublings.{match[1]}.{match[2]}.{match[3]}"
    for theirs, ours in (
        ("formatLayer.module.", "format."),
        ("groupScale0.0.module.", "start."),
        (f"toRGBLayers.{scales}.module.", "rgb."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
