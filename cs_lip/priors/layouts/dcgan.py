"""The layouts in which DCGAN weights circulate. None of them says which activations the network has, so it has the
published ones: ReLU after every norm, tanh at the end. Both layouts' norms add 1e-5 to the variance, as PyTorch does.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.dcgan import KERNEL

State = dict[str, Tensor]

PREFIX = "module."
ENTRY = re.compile(r"main\.([0-9]{1,6})\.(\w+)")

MATRIX = "g_h0_lin/Matrix"
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def is_tutorial(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are ``main.*``, with or without ``module.`` in front (as DataParallel saves them)."""
    return any(ENTRY.fullmatch(name.removeprefix(PREFIX)) and name.endswith(".weight") for name in state)


def from_tutorial(state: Mapping[str, Tensor], labels: int = 0, label: int = 0) -> Blueprint:
    """A DCGAN in the layout of the PyTorch tutorial, its widths read off the weights.

    Modules without weights, such as dropout, shift the numbers of the ones behind them, so convolutions and norms are
    told apart by their weights' dimensions and taken in the order of their numbers.

    Args:
        labels: the classes of a conditional generator, whose one-hot vector is joined to the latent, behind it.
        label: the class to draw.

    Raises:
        ValueError: no chain of transposed convolutions is there, or it has no room for the labels.
    """
    plain = _renumbered(_without_prefix(state))
    shapes: list[Sequence[int]] = []
    while (weight := plain.get(f"main.{3 * len(shapes)}.weight")) is not None and _is_link(weight, bool(shapes)):
        shapes.append(weight.shape)
    if len(shapes) < 2 or f"main.{3 * len(shapes)}.weight" in plain:
        shown = ", ".join(repr(name[:60]) for name in sorted(state)[:3])
        raise ValueError(
            f"no DCGAN in the PyTorch tutorial's layout among the keys {shown}...: expected transposed convolutions "
            f"{KERNEL}x{KERNEL} with a batch norm after each but the last; try a generator's state dict"
        )
    if not 0 <= labels < shapes[0][0]:
        raise ValueError(
            f"the first convolution takes {shapes[0][0]} numbers, which leaves no latent beside {labels} labels; "
            "try the number of classes that the generator was trained with"
        )
    settings: dict[str, Any] = {
        "widths": [shapes[0][0] - labels, *(shape[1] for shape in shapes)],
        "first": shapes[0][2],
    }
    if f"main.{3 * len(shapes) - 3}.bias" in plain:
        settings["output_bias"] = True
    if labels or label:
        settings |= {"labels": labels, "label": label}
    return Blueprint("dcgan", settings, _without_inner_biases(plain, len(shapes)))


def _without_prefix(state: Mapping[str, Tensor]) -> State:
    """The names as the module itself has them; left as they are where only some have the prefix."""
    prefix = PREFIX if all(name.startswith(PREFIX) for name in state) else ""
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _renumbered(state: State) -> State:
    """The names that our class gives: the i-th convolution is ``main.{3 i}``, the norm after it ``main.{3 i + 1}``.

    Raises:
        ValueError: an entry belongs to no convolution and no norm.
    """
    dims = {
        int(found[1]): value.dim()
        for name, value in state.items()
        if (found := ENTRY.fullmatch(name)) and found[2] == "weight"
    }
    places, convolutions = {}, 0
    for number in sorted(dims):
        if dims[number] == 4:
            places[number] = 3 * convolutions
            convolutions += 1
        else:
            places[number] = 3 * convolutions - 2
    renamed: State = {}
    for name, value in state.items():
        found = ENTRY.fullmatch(name)
        place = places.get(int(found[1])) if found else None
        ours = f"main.{place}.{found[2]}" if found and place is not None else name
        if place is None or place < 0 or ours in renamed:
            raise ValueError(
                f"the weights have the unexpected key {name[:80]!r}, so they are not a DCGAN in the PyTorch tutorial's "
                "layout; try a generator's state dict saved from that layout"
            )
        renamed[ours] = value
    return renamed


def _is_link(weight: Tensor, doubles: bool) -> bool:
    """Whether a chain of transposed convolutions may go on with this one."""
    kernel = tuple(weight.shape[2:])
    return weight.dim() == 4 and 0 not in weight.shape and (not doubles or kernel == (KERNEL, KERNEL))


def _without_inner_biases(state: State, convolutions: int) -> State:
    """The same function with the bias of every convolution that has a norm behind it moved into the norm.

    The norm subtracts its running mean from what the convolution gives, so ``(x + b) - mean = x - (mean - b)``. What
    does not fit stays where it is, to be refused by name when the network is filled.
    """
    moved = dict(state)
    for number in range(0, 3 * (convolutions - 1), 3):
        bias, mean = state.get(f"main.{number}.bias"), state.get(f"main.{number + 1}.running_mean")
        if bias is None or mean is None or bias.shape != mean.shape:
            continue
        if bias.is_floating_point() and mean.is_floating_point():
            moved[f"main.{number + 1}.running_mean"] = mean.double() - bias.double()
            del moved[f"main.{number}.bias"]
    return moved


def is_csgm(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are TensorFlow's names of CSGM's generator, in any scope, with or without ``:0``."""
    return any(_variable_name(name) == MATRIX for name in state)


def from_csgm(state: Mapping[str, Tensor]) -> Blueprint:
    """A DCGAN in the layout of CSGM's TensorFlow code (Bora et al. 2017; github.com/AshishBora/csgm, celebA).

    ``g_h0_lin/{Matrix,bias}`` is a linear layer onto the first feature map, (height, width, channels) in memory;
    ``g_h1``, ``g_h2``, ... are transposed convolutions, ``w`` (height, width, out, in) and ``biases``; ``g_bn0``,
    ``g_bn1``, ... are the norms before each of them. What belongs to the discriminator or to the optimiser is left out.

    TensorFlow's ``conv2d_transpose`` of kernel 5, stride 2 and ``SAME`` padding is the adjoint of a convolution that
    pads by one before and by two behind; PyTorch's of padding 1 is the adjoint of one that pads by one on both sides.
    So they agree but for a last row and column, which `Doubling` drops, and neither flips the kernel.

    The linear layer has a bias for every pixel, which no norm can take over. It is the row of weights of a number that
    is always 1, and such a number is what a generator of a single class is given behind its latent: ``labels`` is 1.

    Raises:
        ValueError: a variable is missing, is there twice, or has a shape that no such network has.
    """
    variables = _variables(state)
    count = 0
    while f"g_bn{count}/gamma" in variables:
        count += 1
    kernels = [_variable(variables, f"g_h{index}/w", 4) for index in range(1, max(count, 1) + 1)]
    first = _first_convolution(variables, kernels[0].shape[3])
    converted = {"main.0.weight": first}
    for index, kernel in enumerate(kernels):
        for theirs, ours in NORM.items():
            converted[f"main.{3 * index + 1}.{ours}"] = _vector(variables, f"g_bn{index}/{theirs}", kernel.shape[3])
        converted[f"main.{3 * index + 3}.weight"] = kernel.permute(3, 2, 0, 1)
        converted[f"main.{3 * index + 3}.bias"] = _vector(variables, f"g_h{index + 1}/biases", kernel.shape[2])
    if variables:
        raise ValueError(
            f"the weights have the unexpected variable {min(variables)[:80]!r}, so they are not a DCGAN in CSGM's "
            "layout; try the variables of the unconditional generator alone"
        )
    settings = {
        "widths": [first.shape[0] - 1, first.shape[1], *(kernel.shape[2] for kernel in kernels)],
        "first": first.shape[2],
        "kernel": kernels[0].shape[0],
        "output_bias": True,
        "labels": 1,
    }
    return Blueprint("dcgan", settings, _without_inner_biases(converted, len(kernels) + 1))


def _variables(state: Mapping[str, Tensor]) -> State:
    """The generator's variables without their scope and ``:0``, and without what an optimiser keeps below them."""
    plain: State = {}
    for name, value in state.items():
        ours = _variable_name(name)
        if ours in plain:
            raise ValueError(
                f"the weights hold the variable {ours[:80]!r} twice, in two scopes; "
                "try a file with the variables of one generator"
            )
        if ours:
            plain[ours] = value
    return {name: value for name, value in plain.items() if name.rpartition("/")[0] not in plain}


def _variable_name(name: str) -> str:
    """``g_h1/w`` for ``generator/g_h1/w:0``; empty for what is not the generator's."""
    parts = name.partition(":")[0].split("/")
    start = next((index for index, part in enumerate(parts) if part.startswith("g_")), len(parts))
    return "/".join(parts[start:])


def _variable(variables: State, name: str, dims: int) -> Tensor:
    """Take a variable out of the ones that are left."""
    value = variables.pop(name, None)
    if value is None:
        raise ValueError(
            f"the weights lack the variable {name!r}, so they are not a DCGAN in CSGM's layout; "
            "try to export all of the generator's variables"
        )
    if value.dim() != dims or 0 in value.shape:
        raise ValueError(
            f"variable {name!r} has shape {tuple(value.shape)}, expected {dims} dimensions; "
            "try the weights as their author published them"
        )
    return value


def _vector(variables: State, name: str, length: int) -> Tensor:
    value = _variable(variables, name, 1)
    if len(value) != length:
        raise ValueError(
            f"variable {name!r} has {len(value)} values, expected {length}; "
            "try the weights as their author published them"
        )
    return value


def _first_convolution(variables: State, channels: int) -> Tensor:
    """Matrix and bias of the linear layer as a transposed convolution's weight (latents + 1, channels, side, side)."""
    matrix = _variable(variables, MATRIX, 2)
    bias = _vector(variables, "g_h0_lin/bias", matrix.shape[1])
    side = math.isqrt(matrix.shape[1] // channels)
    if matrix.shape[1] != channels * side**2:
        raise ValueError(
            f"variable {MATRIX!r} gives {matrix.shape[1]} numbers, which are no square of {channels} channels; "
            "try the weights as their author published them"
        )
    return torch.cat([matrix, bias[None]]).reshape(-1, side, side, channels).permute(0, 3, 1, 2)
