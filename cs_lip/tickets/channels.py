"""Channel masks: whole channels of a network are kept or go, with all the weights that make or read them."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cs_lip.priors.prunable import Prunable
from cs_lip.tickets.channel_groups import channel_groups
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.schedules import checked_density
from cs_lip.tickets.slices import ChannelGroup, Rows, between, rows_of

CHANNEL_ALLOCATIONS = ("global", "uniform")
"""One order of all channels, or the same fraction of every group's."""


def dense_channels(network: Prunable) -> Mask:
    """All that loses slices with the hidden channels of a network, with nothing removed yet.

    These are the weights that make or read the channels, so the first and the last layer are among them, and the rows
    that make the channels' styles. In a PGGAN they are the biases too: its pixel norm sums over all channels, so that
    the constant which a bias leaves in a removed channel would dim all others. Elsewhere the next layer does not read
    it.

    Raises:
        ValueError: the channels of such a network are not known.
    """
    groups = channel_groups(network)
    weights = {name for role in network.weight_groups().values() for name in role}
    named = {slices.name for group in groups for slices in group.slices if group.summed or slices.name in weights}
    return Mask(
        {name: torch.ones_like(value, dtype=torch.bool) for name, value in network.named_parameters() if name in named}
    )


def channel_mask(
    network: Prunable,
    scores: Mapping[str, Tensor],
    density: float,
    *,
    parent: Mask | None = None,
    allocation: str = "global",
    floor: float = 0.0,
) -> Mask:
    """The mask that keeps the best channels, inside its parent, at a density at or just below the one asked for.

    A channel's score is the mean over the weights that make or read it, and that the parent keeps. A sum would prefer
    the channels of wide layers for their mere number of weights; the mean is what is lost for each weight that is
    saved. The channels of the floor are kept first, and then the others from the best to the worst, each if the density
    does not rise above the one asked for, so that none of those removed could come back. Density is measured: it counts
    the weights that really are kept, of all that the parent names. Of equal scores the first by group and index is
    kept. What is removed is silent in the network that wears the mask; see `dense_channels`.

    Args:
        network: whose `channel_groups` are known; its weights play no part.
        scores: parameter name -> tensor of its shape, higher = keep, for every weight that makes or reads channels.
        density: in (0, 1], of all weights that the parent names.
        parent: names at least what `dense_channels` names, which is the parent where none is given. It may lack single
            weights as well as channels.
        allocation: ``global``: channels of all groups compete by their scores; ``uniform``: the same fraction of every
            group's channels, each group's best, as far as whole channels and the density allow.
        floor: the least fraction of each group that is kept, but always one channel, and no more than the parent has.

    Raises:
        ValueError: a density out of (0, 1] or above the parent's, or too small for the floor; scores or a parent that
            do not fit; no such allocation; the channels of such a network are not known.
    """
    groups = channel_groups(network)
    root = dense_channels(network)
    parent = root if parent is None else parent
    _check(network, scores, density, parent, root, allocation, floor)
    weights = {name for role in network.weight_groups().values() for name in role} & root.kept.keys()
    means, present = zip(*(_scores(group, scores, parent, weights) for group in groups), strict=True)
    always, others = _order(means, present, allocation, floor)
    chosen = _Chosen(groups, parent)
    for group, channel in always:
        chosen.change(group, channel, True)
    if chosen.density > density:
        raise ValueError(
            f"the density {density:.6g} is below {chosen.density:.6g}, which the floor of {len(always)} channels in "
            f"{len(groups)} groups leaves; try {math.ceil(1e6 * chosen.density) / 1e6:.6g} or more, or a smaller floor"
        )
    for group, channel in others:
        chosen.change(group, channel, True)
        if chosen.density > density:
            chosen.change(group, channel, False)
    return chosen.mask()


class _Chosen:
    """Channels chosen so far, and how many of the parent's weights these keep."""

    def __init__(self, groups: Sequence[ChannelGroup], parent: Mask) -> None:
        self.groups, self.parent = groups, parent
        shapes = {name: kept.shape for name, kept in parent.kept.items()}
        self.rows: Rows = rows_of(shapes, groups, [torch.zeros(group.channels, dtype=torch.bool) for group in groups])
        # Between every two channels, ``(rows, columns)``, of a bias ``(rows, 1)``; doubles count without rounding.
        self.weights = {
            name: kept.cpu().reshape(*kept.shape[:2], -1).sum(-1, dtype=torch.float64).view(len(kept), -1)
            for name, kept in parent.kept.items()
        }
        self.kept, self.total = sum(int(kept.sum()) for kept in self._inside().values()), parent.counts.total

    @property
    def density(self) -> float:
        """As `Mask.density` will measure it."""
        return self.kept / self.total

    def change(self, group: int, channel: int, kept: bool) -> None:
        """Take a channel of the group of that index in, or out again.

        A tensor's count is bilinear in its kept rows and columns, so one slice after the other adds what it crosses.
        """
        for slices in self.groups[group].slices:
            if slices.name in self.rows:
                rows = self.rows[slices.name]
                crossed = rows[1 - slices.axis].double() if len(rows) == 2 else torch.ones(1, dtype=torch.float64)
                first = slices.offset + slices.each * channel
                weights = self.weights[slices.name].narrow(slices.axis, first, slices.each).sum(slices.axis)
                self.kept += int(weights @ crossed) * (1 if kept else -1)
                rows[slices.axis][first : first + slices.each] = kept

    def mask(self) -> Mask:
        """Of the parent's weights those between chosen channels."""
        return Mask(self._inside())

    def _inside(self) -> dict[str, Tensor]:
        return {
            name: kept & between(self.rows[name], kept.dim()).to(kept.device) for name, kept in self.parent.kept.items()
        }


def _scores(
    group: ChannelGroup, scores: Mapping[str, Tensor], parent: Mask, weights: set[str]
) -> tuple[Tensor, Tensor]:
    """The mean score of every channel over the weights that the parent keeps, and which have any such weight."""
    sums, counts = torch.zeros(2, group.channels, dtype=torch.float64)
    for slices in group.slices:
        if slices.name in weights:
            kept = parent.kept[slices.name].cpu()
            values = torch.where(kept, scores[slices.name].detach().cpu().double(), 0)
            for total, part in ((sums, values), (counts, kept.double())):
                total += slices.by_channel(part.movedim(slices.axis, 0).flatten(1).sum(1), group.channels).sum(1)
    return sums / counts.clamp(min=1), counts > 0


def _order(
    means: Sequence[Tensor], present: Sequence[Tensor], allocation: str, floor: float
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The channels of the floor, and the others from the best on, each as (group, channel)."""
    always, others, keys = [], [], []
    for group, (values, there) in enumerate(zip(means, present, strict=True)):
        ranked = [channel for channel in values.sort(descending=True, stable=True).indices.tolist() if there[channel]]
        least = max(1, math.ceil(floor * len(values) - 1e-9))
        always += [(group, channel) for channel in ranked[:least]]
        for rank, channel in enumerate(ranked[least:], least):
            others.append((group, channel))
            keys.append(-float(values[channel]) if allocation == "global" else (rank + 1) / len(values))
    by_key = sorted(range(len(others)), key=keys.__getitem__)  # stable: of equal keys the first remains the first
    return always, [others[place] for place in by_key]


def _check(
    network: Prunable,
    scores: Mapping[str, Tensor],
    density: float,
    parent: Mask,
    root: Mask,
    allocation: str,
    floor: float,
) -> None:
    checked_density(density)
    if not 0 <= floor <= 1:
        raise ValueError(f"the floor must be a fraction from 0 to 1, got {floor}; try 0.01")
    if allocation not in CHANNEL_ALLOCATIONS:
        raise ValueError(
            f"there is no allocation {str(allocation)[:40]!r} of channels; try one of {', '.join(CHANNEL_ALLOCATIONS)}"
        )
    wrong = parent.mismatches(network) + [f"{name} is not named" for name in root.kept if name not in parent.kept]
    if wrong:
        raise ValueError(
            f"the parent is no mask of this network's channels: {wrong[0]:.160}; try dense_channels(network)"
        )
    if density > parent.density:
        raise ValueError(f"the density {density:.6g} is above the parent's, {parent.density:.6g}; try a smaller one")
    for name in {name for role in network.weight_groups().values() for name in role} & root.kept.keys():
        given, expected = tuple(scores[name].shape) if name in scores else "none", tuple(root.kept[name].shape)
        if given != expected:
            raise ValueError(
                f"the scores of {name!r:.80} have shape {given}, expected {expected}; try scores for dense_channels"
            )
        if not scores[name].isfinite().all():
            raise ValueError(f"the scores of {name!r:.80} are not all finite; try another criterion")
