"""Channels of a network as slices of its tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slices:
    """Where the channels of a group lie in a tensor: ``each`` rows of an axis for every channel, from ``offset`` on.

    Attributes:
        name: of the tensor in the state dict.
        axis: counted from 0.
        offset: rows that come before, where feature maps are joined.
        each: rows for one channel, more than one where a matrix product gives a whole feature map.
    """

    name: str
    axis: int
    offset: int = 0
    each: int = 1

    def by_channel(self, along: Tensor, channels: int) -> Tensor:
        """Of values along the axis those of the group, ``(channels, each)``; a view of the values."""
        return along[self.offset : self.offset + channels * self.each].view(channels, self.each)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that one number of a network's constructor counts.

    Attributes:
        setting: the constructor's argument.
        index: of the number in that argument.
        channels: how many there are.
        made: the weights that give the channels.
        read: the weights that the channels go into; where they are zero, nobody sees the channel.
        beside: what else there is for every channel: biases, norms, the rows that make its style, a learned constant.
        summed: the channels are normalised by a sum over all of them, so that one that nobody reads must be zero too.
    """

    setting: str
    index: int
    channels: int
    made: tuple[Slices, ...]
    read: tuple[Slices, ...]
    beside: tuple[Slices, ...]
    summed: bool = False

    @property
    def name(self) -> str:
        """As it is written in Python, such as ``widths[2]``."""
        return f"{self.setting}[{self.index}]"

    @property
    def slices(self) -> tuple[Slices, ...]:
        """All of them."""
        return self.made + self.read + self.beside


Rows = dict[str, tuple[Tensor, ...]]
"""Name of a tensor -> which rows of its first axis, and of its second if it has one, are kept, as bools."""


def rows_of(shapes: Mapping[str, Sequence[int]], groups: Sequence[ChannelGroup], channels: Sequence[Tensor]) -> Rows:
    """The rows of some tensors that remain with some of the channels.

    Args:
        shapes: of the tensors, by name; slices of other tensors are passed over.
        channels: which of them remain, one bool tensor ``(channels,)`` a group.
    """
    rows = {name: tuple(torch.ones(size, dtype=torch.bool) for size in shape[:2]) for name, shape in shapes.items()}
    for group, kept in zip(groups, channels, strict=True):
        for slices in group.slices:
            if slices.name in rows:
                slices.by_channel(rows[slices.name][slices.axis], group.channels)[:] = kept[:, None]
    return rows


def between(rows: Sequence[Tensor], dims: int) -> Tensor:
    """Where kept rows cross kept columns, as bools that broadcast to a tensor of so many axes."""
    crossing = torch.ones((1,) * dims, dtype=torch.bool)
    for axis, kept in enumerate(rows):
        crossing = crossing & kept.view(-1, *(1,) * (dims - axis - 1))
    return crossing
