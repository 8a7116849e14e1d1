"""The layouts in which StyleGAN2 weights circulate.

Both store a convolution as its network applies it, so nothing is flipped: where the side doubles, that is as the kernel
of a transposed convolution. One scales the weights of modulated convolutions by ``1 / sqrt(fan_in)`` and the other does
not, but both divide by their norm afterwards, so all that is left of this is a relative 1e-8, the norm's epsilon.
"""

import re
from collections.abc import Mapping as Named
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors.blueprint import Blueprint, fill
from cs_lip.priors.modulated import TAPS
from cs_lip.priors.stylegan2 import FIRST, MOST_DEPTHS
from cs_lip.priors.stylegan2_mapping import Mapping, spread_of
from cs_lip.seeding import stream

FILTERS = ("resample_filter", "blur.kernel", "upsample.kernel")
"""How the keys of the low-pass filters end."""
SIDES = tuple(FIRST * 2**index for index in range(MOST_DEPTHS))
"""Of the feature maps; a file that claims more has keys that nothing expects."""


def is_nvlabs(state: Named[str, Tensor]) -> bool:
    """Whether the keys are those of NVlabs' stylegan2-ada-pytorch (training/networks.py)."""
    return "mapping.fc0.weight" in state and "synthesis.b4.const" in state


def from_nvlabs(
    state: Named[str, Tensor], label: int = 0, space: str = "z", rate: float = 0.01, clamp: float | None = None
) -> Blueprint:
    """A StyleGAN2 in the layout of NVlabs' stylegan2-ada-pytorch, its sizes read off the weights.

    The mean of ``w`` is ``mapping.w_avg``, or that of a sample where the network knows classes, since the average is
    over all of them.

    Args:
        state: with ``mapping.fc0.weight``, ``synthesis.b4.const``, ``synthesis.b8.conv0.affine.weight``, ...
        label: the class to draw, where the network knows classes.
        space: the latents to search; see `cs_lip.priors.stylegan2.StyleGAN2`, like `rate` and `clamp`.

    Raises:
        ValueError: a network of another kind or filter, or no such label.
    """
    _check_filters(state)
    own = {name: value for name, value in state.items() if not name.endswith(FILTERS)}
    average = own.pop("mapping.w_avg", None)
    settings: dict[str, Any] = {"space": space, "rate": rate, "clamp": clamp, "label": label}
    if "mapping.embed.weight" in own:
        embedding, labels = _shape(own, "mapping.embed.weight", 2)
        settings |= {"labels": labels, "embedding": embedding}
        average = None
    return _blueprint(settings, own, average)


def is_rosinality(state: Named[str, Tensor]) -> bool:
    """Whether the keys are those of rosinality's stylegan2-pytorch (model.py)."""
    return "style.1.weight" in state and "input.input" in state


def from_rosinality(state: Named[str, Tensor], space: str = "z") -> Blueprint:
    """A StyleGAN2 in the layout of rosinality's stylegan2-pytorch, its sizes read off the weights.

    Checkpoints have this state dict under ``g_ema`` and, if they were converted from TensorFlow, the mean of ``w``
    beside it under ``latent_avg``, which may be handed over here as one more key. The original draws its noise anew
    for every image unless told otherwise. Here it is constant: the buffers ``noises.noise_0``, ... where they are
    there, else one draw from a fixed stream.

    Args:
        state: with ``style.1.weight``, ``input.input``, ``conv1.conv.weight``, ``to_rgbs.0.conv.weight``, ...
        space: the latents to search; see `cs_lip.priors.stylegan2.StyleGAN2`.

    Raises:
        ValueError: a network of another kind or filter.
    """
    _check_filters(state)
    own: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.endswith(FILTERS) and not name.startswith("noises.") and name != "latent_avg":
            key = _renamed(name)
            own[key] = value.flatten() if key.endswith("torgb.bias") else _unbatched(key, value)
    random = stream(0, "stylegan2 noise")
    for index in range(2 * len(_sides(own)) - 1):
        side, layer = SIDES[(index + 1) // 2], (index + 1) % 2
        noise = state.get(f"noises.noise_{index}", torch.randn(1, 1, side, side, generator=random))
        own[f"synthesis.b{side}.conv{layer}.noise_const"] = noise.squeeze(0).squeeze(0)
    return _blueprint({"space": space}, own, state.get("latent_avg"))


PLACE = re.compile(r"(conv|to_rgb)(?:1|s\.(\d{1,2}))\.(?:conv\.(?=[wm]))?(.+)")
"""A modulated layer: the first of its kind, or one of a numbered list, and the rest of the key."""
TAILS = {"modulation": "affine", "noise.weight": "noise_strength", "activate.bias": "bias"}


def _renamed(name: str) -> str:
    """Our name of a weight in rosinality's layout; itself where nothing is known of it."""
    if name == "input.input":
        return "synthesis.b4.const"
    if style := re.fullmatch(r"style\.(\d{1,2})\.(\w+)", name):
        return f"mapping.fc{int(style[1]) - 1}.{style[2]}"
    if not (place := PLACE.fullmatch(name)):
        return name
    kind, number, tail = place.groups()
    for theirs, ours in TAILS.items():
        tail = tail.replace(theirs, ours)
    if kind == "to_rgb":
        return f"synthesis.b{FIRST if number is None else FIRST * 2 ** (int(number) + 1)}.torgb.{tail}"
    # The convolutions of all resolutions are in one list, two for each from the second resolution on.
    block, layer = (0, 1) if number is None else (int(number) // 2 + 1, int(number) % 2)
    return f"synthesis.b{FIRST * 2**block}.conv{layer}.{tail}"


def _unbatched(key: str, value: Tensor) -> Tensor:
    """Without the dimension of size 1 in front that this layout gives to kernels, the constant and the strengths."""
    batched = key.startswith("synthesis.") and ".affine." not in key and not key.endswith(".bias")
    return value.squeeze(0) if batched else value


def _blueprint(settings: dict[str, Any], own: dict[str, Tensor], average: Tensor | None) -> Blueprint:
    """The blueprint of weights under our names, with their sizes, and in W the mean of ``w`` and its spread.

    Raises:
        ValueError: a layer is missing, or the mapping is not whole or constant.
    """
    present = takewhile(lambda index: index == 0 or f"mapping.fc{index}.weight" in own, range(100))
    shapes = [_shape(own, f"mapping.fc{index}.weight", 2) for index in present]
    size = shapes[0][1] - settings.get("embedding", 0)
    if size < 1:
        raise ValueError("the classes leave no room for z in 'mapping.fc0.weight'; try an undamaged file")
    settings = settings | {
        "widths": [size, *(fan_out for fan_out, _ in shapes)],
        "depths": [_shape(own, f"synthesis.b{side}.conv1.weight", 4)[0] for side in _sides(own)],
        "channels": _shape(own, "synthesis.b4.torgb.weight", 4)[0],
    }
    if settings["space"] not in ("w", "w+"):
        return Blueprint("stylegan2", settings, own)
    names = ("widths", "rate", "labels", "label", "embedding")
    with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
        mapping = Mapping(**{name: settings[name] for name in names if name in settings})
    weights = {name.removeprefix("mapping."): own[name] for name in own if name.startswith("mapping.")}
    mean, spread = spread_of(fill(mapping, weights, "a StyleGAN2's mapping"), size)
    if spread <= 1e-6 * mean.abs().max():  # which is rounding
        raise ValueError("the mapping gives every z the same w, so W has no units; try the space z")
    own = own | {"w_mean": mean if average is None else average.flatten(), "w_spread": spread}
    return Blueprint("stylegan2", settings, own)


def _sides(own: Named[str, Tensor]) -> tuple[int, ...]:
    """The sides of all resolutions from the first on."""
    return tuple(takewhile(lambda side: side == FIRST or f"synthesis.b{side}.conv1.weight" in own, SIDES))


def _shape(state: Named[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    """The shape of a weight that must be there with so many dimensions, none of them empty.

    Raises:
        ValueError: it is not.
    """
    shape = tuple(state[name].shape) if name in state else ()
    if len(shape) != dims or 0 in shape:
        found = f"has shape {shape}" if name in state else "is missing"
        raise ValueError(
            f"weight {name!r} {found}, expected {dims} dimensions, as in a StyleGAN2 with skip connections; "
            "try the generator's state dict as its author published it"
        )
    return shape


def _check_filters(state: Named[str, Tensor]) -> None:
    """Refuse low-pass filters other than the published one, whatever gain is baked into them.

    Raises:
        ValueError: there is one.
    """
    taps = torch.tensor(TAPS) / sum(TAPS)
    for name, value in state.items():
        if not name.endswith(FILTERS):
            continue
        known = value.shape == (len(TAPS), len(TAPS)) and value.is_floating_point()
        if not known or not torch.allclose(value.float() / value.float().sum(), torch.outer(taps, taps), atol=1e-5):
            raise ValueError(
                f"the filter {name!r} is not StyleGAN2's own, (1, 3, 3, 1) along each axis, and no other is supported; "
                "try a network trained with the published configuration"
            )
