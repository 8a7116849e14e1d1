"""Selection: from scores to a mask of exactly the density that was asked for."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cs_lip.tickets.allocation import ALLOCATIONS, Layer
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.schedules import checked_density

GRANULARITIES = ("weight", "kernel")
"""What stands or falls together here: one weight, or all taps of one pair of channels."""


def select(
    scores: Mapping[str, Tensor],
    density: float,
    *,
    parent: Mask,
    granularity: str = "weight",
    allocation: str = "global",
    floor: float = 0.0,
) -> Mask:
    """The mask that keeps the highest scores, inside its parent.

    It keeps exactly ``round(density * total)`` units, where ``total`` counts those of all layers that the parent names,
    also where the parent has pruned them. Of equal scores it keeps the first by the names of the layers and then by the
    position in the layer, so equal scores make equal masks.

    Args:
        scores: parameter name -> tensor of its shape, higher = keep, for every layer that the parent names.
        density: in (0, 1], of all weights, not of what the parent left.
        parent: what may be kept; `Mask.dense` at first.
        granularity: ``weight``, or ``kernel``: all weights that lead from one channel to another stand or fall
            together, by the sum of their scores. Density is then that of kernels, which weighs layers of 1x1 and of
            3x3 kernels alike.
        allocation: a name of `cs_lip.tickets.allocation.ALLOCATIONS`: one threshold for all layers (``global``), the
            same density in each (``uniform``), or more in small layers (``erk``).
        floor: the least fraction of each layer that is kept, but always one unit, and no more than the parent has.

    Raises:
        ValueError: a density out of (0, 1] or above the parent's, or too small for the floor; scores that are not
            finite or do not fit; no such granularity or allocation.
    """
    _check(scores, density, parent, granularity, allocation, floor)
    names = sorted(parent.kept)
    alive = {name: _kernels(parent.kept[name], granularity).any(-1) for name in names}
    values = {name: _values(scores[name], parent.kept[name], granularity) for name in names}
    order = {name: _descending(values[name], alive[name]) for name in names}
    layers = [
        Layer(
            scores=values[name][order[name]],
            total=alive[name].numel(),
            shape=tuple(parent.kept[name].shape),
            least=min(max(1, math.ceil(floor * alive[name].numel() - 1e-9)), len(order[name])),
        )
        for name in names
    ]
    counts = ALLOCATIONS[allocation](layers, _target(layers, density))
    chosen = {name: order[name][:count] for name, count in zip(names, counts, strict=True)}
    return Mask({name: _spread(chosen[name], parent.kept[name], granularity) for name in parent.kept})


def kept_fraction(mask: Mask, granularity: str) -> float:
    """The fraction of weights or kernels of which a mask keeps any part, in (0, 1]; see `select`."""
    units = torch.cat([_kernels(kept, granularity).any(-1) for kept in mask.kept.values()])
    return int(units.sum()) / len(units)


def _kernels(weights: Tensor, granularity: str) -> Tensor:
    """Weights ``(out, in, ...)`` as ``(units, weights of each)``."""
    pairs = weights.numel() if granularity == "weight" else math.prod(weights.shape[:2])
    return weights.reshape(pairs, -1)


def _values(scores: Tensor, kept: Tensor, granularity: str) -> Tensor:
    """The score of every unit: the sum over those of its weights that the parent keeps."""
    return _kernels(torch.where(kept.to(scores.device), scores.detach(), 0), granularity).sum(-1)


def _descending(values: Tensor, alive: Tensor) -> Tensor:
    """The units that may be kept, highest first, of equal ones the first."""
    units = alive.to(values.device).nonzero()[:, 0]
    return units[values[units].sort(descending=True, stable=True).indices]


def _spread(chosen: Tensor, kept: Tensor, granularity: str) -> Tensor:
    """The mask of one layer, from the units chosen."""
    units = torch.zeros_like(_kernels(kept, granularity))
    units[chosen.to(kept.device)] = True
    return units.reshape(kept.shape) & kept


def _target(layers: list[Layer], density: float) -> int:
    """How many units are kept in all.

    Raises:
        ValueError: more than the parent has, or fewer than the floors ask for.
    """
    total = sum(layer.total for layer in layers)
    left = sum(len(layer.scores) for layer in layers)
    least = sum(layer.least for layer in layers)
    target = round(density * total)
    if target > left:
        raise ValueError(f"the density {density:.6g} is above the parent's, {left / total:.6g}; try a smaller one")
    if target < least:
        raise ValueError(
            f"the density {density:.6g} keeps {target} of {total}, but the floor {least} in {len(layers)} layers; "
            f"try a density of {math.ceil(1e6 * least / total) / 1e6:.6g} or more, or a smaller floor"
        )
    return target


def _check(
    scores: Mapping[str, Tensor], density: float, parent: Mask, granularity: str, allocation: str, floor: float
) -> None:
    checked_density(density)
    if not 0 <= floor <= 1:
        raise ValueError(f"the floor must be a fraction from 0 to 1, got {floor}; try 0.01")
    if granularity not in GRANULARITIES:
        raise ValueError(f"there is no granularity {str(granularity)[:40]!r}; try one of {', '.join(GRANULARITIES)}")
    if allocation not in ALLOCATIONS:
        raise ValueError(f"there is no allocation {str(allocation)[:40]!r}; try one of {', '.join(ALLOCATIONS)}")
    for name, kept in parent.kept.items():
        given = tuple(scores[name].shape) if name in scores else "none"
        if given != tuple(kept.shape):
            raise ValueError(
                f"the scores of {name!r:.80} have shape {given}, expected {tuple(kept.shape)}; try the scores of the "
                "network that the mask is of"
            )
        if not scores[name].isfinite().all():
            raise ValueError(f"the scores of {name!r:.80} are not all finite; try another criterion, or a smaller loss")
