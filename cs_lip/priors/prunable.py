"""Networks some of whose weights are held at zero."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

PREFIX = "kept/"
"""Of the buffers that say which weights are kept; a buffer's name has no dots, so they become slashes."""


class Prunable(nn.Module):
    """A network that knows which of its weights may differ from zero, and puts the others back after a step.

    Solvers that move weights call `project_` after each step and never hear of masks. Copies keep what is held, and so
    do folded ones, whose weights are zero in the same places.
    """

    @abstractmethod
    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        """The names of the weights that may be pruned, by their role: ``input``, ``hidden`` and ``output``.

        Biases and norms belong to no group.
        """

    @property
    def kept(self) -> dict[str, Tensor]:
        """Which weights may differ from zero, parameter name -> bool of its shape; empty for a dense network."""
        return {
            name.removeprefix(PREFIX).replace("/", "."): mask
            for name, mask in self.named_buffers(recurse=False)
            if name.startswith(PREFIX)
        }

    def keep_(self, kept: Mapping[str, Tensor]) -> None:
        """Hold every other weight of these parameters at zero from now on.

        Args:
            kept: parameter name -> bool of its shape. It replaces what was held before.
        """
        for name in self.kept:
            delattr(self, _buffer(name))
        for name, mask in kept.items():
            self.register_buffer(_buffer(name), mask.to(self.get_parameter(name).device), persistent=False)
        self.project_()

    def project_(self) -> None:
        """Put the weights that are held at zero back there."""
        with torch.no_grad():
            for name, mask in self.kept.items():
                self.get_parameter(name).mul_(mask)

    def keep_nonzero_(self) -> None:
        """Hold the weights at zero that are zero now, in the layers that may be pruned."""
        names = [name for group in self.weight_groups().values() for name in group]
        self.keep_({name: self.get_parameter(name) != 0 for name in names})


def _buffer(name: str) -> str:
    return PREFIX + name.replace(".", "/")
