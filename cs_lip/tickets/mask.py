"""Masks: which weights of a prior a ticket keeps."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cs_lip.priors.prunable import Prunable

DEFAULT_ROLES = ("hidden",)
"""The convolutions between the first and the last layer, as most papers prune; those two by choice."""


class Density(NamedTuple):
    """How many weights of a layer, or of all, are kept of how many."""

    kept: int
    total: int

    @property
    def fraction(self) -> float:
        """``kept / total``, in [0, 1]."""
        return self.kept / self.total


@dataclass(frozen=True, eq=False)
class Mask:
    """Parameter name -> bool tensor of the parameter's shape, True where the weight is kept.

    Weights that it does not name are dense. Density is counted over the weights that it names.

    Raises:
        ValueError: it names nothing, holds something else than bools, or keeps no weight of a layer.
    """

    kept: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Refuse what is no mask, or one that cuts the network through."""
        if not self.kept:
            raise ValueError("a mask must name at least one layer, got none; try the role 'hidden'")
        for name, kept in self.kept.items():
            if kept.dtype != torch.bool:
                raise ValueError(f"the mask of {name!r:.80} must be of bools, got {kept.dtype}; try mask != 0")
            if not kept.any():
                raise ValueError(f"the mask empties the layer {name!r:.80}; try a larger density, or a larger floor")

    @staticmethod
    def dense(network: Prunable, roles: Iterable[str] = DEFAULT_ROLES) -> "Mask":
        """All weights of some roles of a network; see `cs_lip.priors.prunable.Prunable.weight_groups`.

        Raises:
            ValueError: there is no such role, or none of them has a layer.
        """
        groups = network.weight_groups()
        for role in roles:
            if role not in groups:
                raise ValueError(f"there is no role {role!r:.40}; try one of {', '.join(groups)}")
        names = [name for role in roles for name in groups[role]]
        return Mask({name: torch.ones_like(network.get_parameter(name), dtype=torch.bool) for name in names})

    @staticmethod
    def measured(network: Prunable, names: Iterable[str] | None = None) -> "Mask":
        """Which weights of a network are not zero, whatever a file says of it.

        Args:
            names: of the parameters to look at; None for all that may be pruned.

        Raises:
            ValueError: all weights of a layer are zero.
        """
        if names is None:
            names = [name for group in network.weight_groups().values() for name in group]
        return Mask({name: network.get_parameter(name).detach() != 0 for name in names})

    @property
    def density(self) -> float:
        """The fraction of the named weights that is kept, in (0, 1]."""
        return self.counts.fraction

    @property
    def counts(self) -> Density:
        """Kept and total over all layers."""
        layers = self.layers().values()
        return Density(sum(layer.kept for layer in layers), sum(layer.total for layer in layers))

    def layers(self) -> dict[str, Density]:
        """Kept and total of every layer."""
        return {name: Density(int(kept.sum()), kept.numel()) for name, kept in self.kept.items()}

    def is_inside(self, parent: "Mask") -> bool:
        """Whether it names the same layers and keeps nothing that the parent does not keep."""
        return self.kept.keys() == parent.kept.keys() and all(
            not bool((kept & ~parent.kept[name]).any()) for name, kept in self.kept.items()
        )

    def mismatches(self, network: Prunable) -> list[str]:
        """What keeps it from fitting a network, a phrase for each parameter; empty where it fits."""
        shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
        return [
            f"{name} {tuple(kept.shape)} "
            + (f"is {shapes[name]} in the network" if name in shapes else "is not in the network")
            for name, kept in self.kept.items()
            if shapes.get(name) != tuple(kept.shape)
        ]

    def apply_(self, network: Prunable) -> None:
        """Set the other weights to zero, and hold them there; see `cs_lip.priors.prunable.Prunable.keep_`.

        Raises:
            ValueError: a name or shape is not the network's.
        """
        wrong = self.mismatches(network)
        if wrong:
            raise ValueError(
                f"the mask does not fit the network in {len(wrong)} of {len(self.kept)} layers: {wrong[0]:.160}; try "
                "the architecture that it was found in"
            )
        network.keep_(self.kept)

    @property
    def sha256(self) -> str:
        """Of names, shapes and bits, in lower-case hexadecimal digits."""
        digest = hashlib.sha256()
        for name in sorted(self.kept):
            kept = self.kept[name].cpu().contiguous()
            digest.update(f"{name} {tuple(kept.shape)}\n".encode())
            digest.update(kept.numpy().tobytes())
        return digest.hexdigest()
