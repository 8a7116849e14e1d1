"""The layouts in which generators' weights circulate, and telling them apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.layouts.dcgan import from_csgm, from_tutorial, is_csgm, is_tutorial
from cs_lip.priors.layouts.decoder import from_csgm_vae, from_linear, is_csgm_vae, is_linear
from cs_lip.priors.layouts.pggan import from_zoo, is_zoo
from cs_lip.priors.layouts.stylegan2 import from_nvlabs, from_rosinality, is_nvlabs, is_rosinality


@dataclass(frozen=True)
class Options:
    """What a foreign weight file does not say and its owner must. None where the layout's own default holds.

    Attributes:
        labels: classes of a conditional generator.
        label: the class to draw.
        space: the latents to search, ``z``, ``w`` or ``w+``, of a generator that has several.
        image_shape: ``(channels, height, width)`` of a network that ends in a vector.
        activation: between the layers of a plain decoder, such as ``relu``.
        value_range: the values ``(low, high)`` that an ONNX network gives to black and white.
    """

    labels: int | None = None
    label: int | None = None
    space: str | None = None
    image_shape: tuple[int, int, int] | None = None
    activation: str | None = None
    value_range: tuple[float, float] | None = None


NO_OPTIONS = Options()


@dataclass(frozen=True)
class Layout:
    """One way in which weights are named.

    Attributes:
        name: what people call it.
        matches: whether a state dict is in this layout, by its keys alone.
        convert: the `Blueprint` of such a state dict; ValueError where it is not whole.
        options: the `Options` that it takes.
    """

    name: str
    matches: Callable[[Mapping[str, Tensor]], bool]
    convert: Callable[..., Blueprint]
    options: tuple[str, ...] = ()


NVLABS = Layout("StyleGAN2 of NVlabs stylegan2-ada-pytorch", is_nvlabs, from_nvlabs, ("label", "space"))
"""Which comes in pickles of its own too."""

LAYOUTS: tuple[Layout, ...] = (
    Layout("DCGAN of the PyTorch tutorial", is_tutorial, from_tutorial, ("labels", "label")),
    Layout("DCGAN of CSGM in TensorFlow", is_csgm, from_csgm),
    Layout("PGGAN of pytorch_GAN_zoo", is_zoo, from_zoo),
    NVLABS,
    Layout("StyleGAN2 of rosinality stylegan2-pytorch", is_rosinality, from_rosinality, ("space",)),
    Layout("VAE of CSGM in TensorFlow", is_csgm_vae, from_csgm_vae, ("image_shape",)),
    Layout("plain decoder", is_linear, from_linear, ("image_shape", "activation")),
)
"""In the order in which they are tried."""


def given_options(options: Options) -> dict[str, Any]:
    """The options that are not None, by name."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in given.items() if value is not None}


def taken_options(options: Options, layout: Layout) -> dict[str, Any]:
    """The options that are not None, by name.

    Raises:
        ValueError: one that the layout does not take.
    """
    given = given_options(options)
    if surplus := sorted(given.keys() - set(layout.options)):
        raise ValueError(f"the layout {layout.name!r} takes no {surplus[0]}; try without it")
    return given


def recognise(state: Mapping[str, Tensor], options: Options = NO_OPTIONS) -> Blueprint:
    """The blueprint of a state dict in any of `LAYOUTS`.

    Raises:
        ValueError: in none of them, an option that the layout does not take, or weights that are not whole.
    """
    for layout in LAYOUTS:
        if layout.matches(state):
            return replace(layout.convert(state, **taken_options(options, layout)), layout=layout.name)
    shown = ", ".join(repr(name)[:24] for name in sorted(state)[:3])
    raise ValueError(
        f"no known layout among the keys {shown}...; known are {', '.join(layout.name for layout in LAYOUTS)}; "
        "try a generator's state dict in one of them, or Generator.wrap in Python"
    )
