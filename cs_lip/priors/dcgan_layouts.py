"""The layouts in which DCGAN weights circulate."""

import re
from collections.abc import Mapping

from torch import Tensor

from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.dcgan import KERNEL

WEIGHT = re.compile(r"(?:module\.)?main\.(\d+)\.weight")


def is_tutorial(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are ``main.*``, with or without ``module.`` in front (as DataParallel saves them)."""
    return any(WEIGHT.fullmatch(name) for name in state)


def from_tutorial(state: Mapping[str, Tensor], labels: int = 0, label: int = 0) -> Blueprint:
    """A DCGAN in the layout of the PyTorch tutorial, its widths read off the weights.

    Raises:
        ValueError: no chain of transposed convolutions is there.
    """
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    widths: list[int] = []
    while (weight := plain.get(f"main.{3 * max(len(widths) - 1, 0)}.weight")) is not None:
        if weight.dim() != 4 or 0 in weight.shape or (widths and tuple(weight.shape[2:]) != (KERNEL, KERNEL)):
            break
        widths += list(weight.shape[:2]) if not widths else [weight.shape[1]]
    if len(widths) < 3:
        raise ValueError(
            f"no DCGAN in the PyTorch tutorial's layout among the keys {sorted(state)[:3]}...: expected 4x4 transposed "
            "convolutions under 'main.0.weight', 'main.3.weight', ...; try a generator's state dict"
        )
    settings = {"widths": [widths[0] - labels, *widths[1:]], "first": plain["main.0.weight"].shape[2]}
    if labels:
        settings |= {"labels": labels, "label": label}
    return Blueprint("dcgan", settings, plain)
