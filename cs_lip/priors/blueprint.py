"""What a generator is made from, before it is one: an architecture's name, its settings and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Blueprint:
    """What `cs_lip.priors.architectures.build` makes a generator from.

    Attributes:
        architecture: a name of `cs_lip.priors.architectures.ARCHITECTURES`.
        settings: the arguments of that class, JSON-able.
        state: its state dict; buffers that only count batches may be missing.
        layout: in which of `cs_lip.priors.layouts.recognise.LAYOUTS` the weights were; empty where none was asked.
    """

    architecture: str
    settings: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    layout: str = ""


def fill(network: Network, state: Mapping[str, Tensor], layout: str) -> Network:
    """Give a network, built on the ``meta`` device, copies of its weights, in float32 and evaluation mode.

    Args:
        state: name -> tensor; ``num_batches_tracked`` may be missing, any other key must be there and fit.
        layout: what the weights should have been, for the messages, such as
            ``a DCGAN in the PyTorch tutorial's layout``.

    Raises:
        ValueError: a key is missing or unexpected, a shape does not fit, or a weight is not finite.
    """
    expected = {name: value for name, value in network.state_dict().items() if not _counts(name)}
    given = {name: value for name, value in state.items() if not _counts(name)}
    for problem, names in (
        ("lack", sorted(expected.keys() - given.keys())),
        ("have the unexpected", sorted(given.keys() - expected.keys())),
    ):
        if names:
            raise ValueError(
                f"the weights {problem} key {names[0]!r:.80}, so they are not {layout}; "
                "try a generator's state dict saved from that layout"
            )
    for name, value in expected.items():
        if given[name].shape != value.shape:
            raise ValueError(
                f"weight {name!r} has shape {tuple(given[name].shape)}, expected {tuple(value.shape)}; "
                "try the file as its author published it"
            )
    for name in expected:
        _check_values(name, given[name])
    weights = {
        name: value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, value in given.items()
    }
    counters = {name: torch.tensor(0) for name in network.state_dict() if name not in weights}
    network.load_state_dict(weights | counters, assign=True)
    return network.eval()


def _counts(name: str) -> bool:
    """How many batches a norm has seen plays no part in drawing images."""
    return name.endswith("num_batches_tracked")


def _check_values(name: str, given: Tensor) -> None:
    if not given.is_floating_point() or not torch.isfinite(given.float()).all():
        raise ValueError(f"weight {name!r} holds values that are not finite real numbers; try an undamaged file")
    if name.endswith("running_var") and (given < 0).any():
        raise ValueError(f"weight {name!r} holds negative variances; try an undamaged file")
