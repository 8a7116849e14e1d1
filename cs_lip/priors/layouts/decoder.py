"""The layouts in which plain decoders' weights circulate."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from cs_lip.priors.blueprint import Blueprint

EXAMPLE = ("fc1", "fc21", "fc22", "fc3", "fc4")
"""The layers of the autoencoder in pytorch/examples (``vae/main.py``); the last two are its decoder."""
CSGM = tuple(f"gen/{kind}{index}" for index in (1, 2, 3) for kind in "wb")
"""The decoder's variables in CSGM's autoencoder of digits (``src/model_def.py`` of AshishBora/mnist-vae)."""


def is_csgm_vae(state: Mapping[str, Tensor]) -> bool:
    """Whether the variables of CSGM's decoder are there; its encoder's, ``enc/*``, may be."""
    return set(CSGM) <= state.keys()


def from_csgm_vae(state: Mapping[str, Tensor], image_shape: Sequence[int] | None = None) -> Blueprint:
    """CSGM's decoder of digits, 20-500-500-784 with softplus (Bora et al. 2017, section 6.1), exported as ``.npz``.

    TensorFlow keeps its matrices transposed.

    Raises:
        ValueError: as `from_linear`.
    """
    plain = {}
    for index in (1, 2, 3):
        weight = state[f"gen/w{index}"]
        plain[f"{index}.weight"] = weight.T if weight.dim() == 2 else weight
        plain[f"{index}.bias"] = state[f"gen/b{index}"]
    return from_linear(plain, image_shape, "softplus")


def is_linear(state: Mapping[str, Tensor]) -> bool:
    """Whether some layer has a weight and a bias. Many networks have, so this layout is the last to be tried."""
    return any(name.endswith(".weight") and f"{name.removesuffix('.weight')}.bias" in state for name in state)


def from_linear(
    state: Mapping[str, Tensor],
    image_shape: Sequence[int] | None = None,
    activation: str = "relu",
) -> Blueprint:
    """A decoder in any chain of linear layers ``*.weight`` and ``*.bias``, their sizes read off the weights.

    Where layers lie under a name ``decoder``, they are the chain; else all that lie under no name ``encoder``, and of
    the autoencoder in pytorch/examples the last two. They follow one another as the state has them, or by the numbers
    in their names, whichever fits. The images are the sigmoid of the last layer's values, whether the network itself
    ends in these logits or in the sigmoid, which no weight tells; what ends otherwise goes through `Generator.wrap`.

    Args:
        image_shape: ``(channels, height, width)``; one channel and a square where the last size is a square number.
        activation: a name of `cs_lip.priors.decoder.ACTIVATIONS`; no weight tells.

    Raises:
        ValueError: nothing but an encoder, a layer that is not linear, weights of something else beside the layers,
            layers that do not follow one another, or an image shape that is not told.
    """
    names = _decoder([name.removesuffix(".weight") for name in state if name.endswith(".weight")])
    _check_nothing_left(names, state)
    for name in names:
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        if weight.dim() != 2 or bias is None or bias.shape != weight.shape[:1]:
            beside = "no bias" if bias is None else f"a bias of {tuple(bias.shape)!s:.40}"
            raise ValueError(
                f"layer {name!r:.60} has a weight of shape {tuple(weight.shape)!s:.40} and {beside}, so this is no "
                "plain decoder of linear layers with biases; try Generator.wrap with the module, built in Python"
            )
    names = _in_order(names, state)
    sizes = [state[f"{names[0]}.weight"].shape[1], *(state[f"{name}.weight"].shape[0] for name in names)]
    settings = {"sizes": sizes, "image_shape": list(image_shape or _square(sizes[-1])), "activation": activation}
    weights = {
        f"linear.{index}.{kind}": state[f"{name}.{kind}"]
        for index, name in enumerate(names)
        for kind in ("weight", "bias")
    }
    return Blueprint("decoder", settings, weights)


def _decoder(names: list[str]) -> list[str]:
    """Those of a decoder's layers; all where nothing tells them apart."""
    if {name.removeprefix("module.") for name in names} == set(EXAMPLE):
        return [name for name in names if name.endswith(EXAMPLE[-2:])]
    under = [name for name in names if "decoder" in name.split(".")]
    others = [name for name in names if "encoder" not in name.split(".")]
    if not under and not others:
        raise ValueError("all the layers are an encoder's; try the state dict of the decoder")
    return under or others


def _check_nothing_left(layers: list[str], state: Mapping[str, Tensor]) -> None:
    """Refuse weights that belong to no layer, as spectral norms and recurrent layers have: without them the layers
    would draw something else. Where the layers lie under ``decoder``, what lies elsewhere is another network's.
    """
    taken = {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
    apart = any("decoder" in name.split(".") for name in layers)
    left = [name for name in state if name not in taken and ("decoder" in name.split(".") if apart else _counts(name))]
    if left:
        raise ValueError(
            f"beside the layers {', '.join(layers):.60} there is {left[0]!r:.60}, so this is no plain decoder of "
            "linear layers; try Generator.wrap with the module, built in Python"
        )


def _counts(name: str) -> bool:
    """Whether a weight is not known to be an encoder's."""
    parts = name.removeprefix("module.").split(".")
    return "encoder" not in parts and parts[0] not in EXAMPLE[:-2]


def _in_order(names: list[str], state: Mapping[str, Tensor]) -> list[str]:
    """The layers so that each takes what the one before gives.

    A PyTorch file keeps the order in which the network was written, a safetensors file that of the alphabet, which says
    nothing, so that numbers come first there.
    """
    natural = sorted(names, key=_natural)
    for order in (natural, names) if names == sorted(names) else (names, natural):
        shapes = [state[f"{name}.weight"].shape for name in order]
        if all(before[0] == after[1] for before, after in pairwise(shapes)):
            return order
    shown = ", ".join(f"{name!r:.30} {tuple(state[f'{name}.weight'].shape)}" for name in names[:4])
    raise ValueError(
        f"the layers {shown} do not follow one another, so this is no plain decoder; "
        "try the decoder's state dict alone, or Generator.wrap with the module"
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which numbers in names sort as numbers."""
    parts = re.split(r"([0-9]{1,6})", name)
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def _square(size: int) -> tuple[int, int, int]:
    side = math.isqrt(size)
    if side**2 != size:
        raise ValueError(
            f"the decoder ends in {size} values, which are no square image of one channel; "
            "try the option image_shape, (channels, height, width)"
        )
    return 1, side, side
