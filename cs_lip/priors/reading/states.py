"""The state dict of a generator among all that a weight file holds, and what every state dict must be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors.reading.archives import MAX_EXPANSION

PREFERRED = (
    *("g_ema", "G_ema", "ema_g", "netG_ema", "generator_ema", "avgG", "ema"),
    *("netG_state_dict", "generator_state_dict", "netG", "generator", "gen", "G", "g"),
)
"""The names under which checkpoints keep their generator; averaged weights first, since they draw the better images."""

BESIDE = ("latent_avg",)
"""Tensors that belong to the generator but lie beside its state dict, in rosinality's checkpoints of StyleGAN2."""


def choose_state(content: object, path: Path) -> dict[str, Tensor]:
    """The one state dict in ``content``, at the top or one level down, by the names in `PREFERRED` where several are;
    what lies `BESIDE` it is put in.

    Raises:
        ValueError: there is none, or none of several is known to be the generator's.
    """
    table: Mapping[Any, Any] = content if isinstance(content, Mapping) else {}
    if _is_state(table):
        return dict(table)
    states: dict[Any, dict[str, Tensor]] = {name: dict(value) for name, value in table.items() if _is_state(value)}
    chosen = [name for name in PREFERRED if name in states] or list(states)
    if not chosen or (len(states) > 1 and chosen[0] not in PREFERRED):
        names = f" ({', '.join(repr(str(name)[:30]) for name in list(states)[:5])})" if states else ""
        raise ValueError(
            f"{path} holds {len(states)} state dicts{names} where a generator's was expected; "
            "try to save the generator's state dict alone, as safetensors"
        )
    beside = {name: table[name] for name in BESIDE if isinstance(table.get(name), Tensor)}
    return beside | states[chosen[0]]


def own_copies(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Plain copies of the tensors, after a look at their names and at how much memory they would take.

    Raises:
        ValueError: a name with and without ``module.`` in front, a tensor of an odd kind, or shapes that claim far more
            values than the file holds.
    """
    for name in state:
        if f"module.{name}" in state:
            raise ValueError(
                f"{path} holds both {name!r:.60} and {'module.' + name!r:.60}, of which a generator has one; "
                "try the generator's state dict alone"
            )
    for name, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise ValueError(f"{path} holds in {name!r:.60} no plain array of real numbers; try a plain state dict")
    claimed, held = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if claimed > MAX_EXPANSION * held:
        largest = max(state, key=lambda name: state[name].numel())
        raise ValueError(
            f"{path} has {held} bytes, but its weights claim {claimed}, {largest!r:.60} alone the shape "
            f"{_shape(state[largest])}; try the file as its author published it"
        )
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _shape(value: Tensor) -> str:
    lengths = ", ".join(map(str, value.shape[:4]))
    return f"({lengths}, ...)" if value.dim() > 4 else f"({lengths})"
