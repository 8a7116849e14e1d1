"""Allocation: how many weights, or kernels, each layer of a ticket keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """What is to be known of a layer that loses some of its units, which are weights or whole kernels.

    Attributes:
        scores: of the units that may be kept, the highest first.
        total: of all its units, with those that are gone already.
        shape: of its weights.
        least: units that it keeps whatever their scores.
    """

    scores: Tensor
    total: int
    shape: tuple[int, ...]
    least: int


def globally(layers: Sequence[Layer], target: int) -> list[int]:
    """As many units of each layer as are among the ``target`` highest scores of all, but no less than its floor.

    Of equal scores those of the earlier layer come first.
    """
    counts = torch.tensor([layer.least for layer in layers])
    beyond = torch.cat([layer.scores[layer.least :] for layer in layers])
    owners = torch.arange(len(layers)).repeat_interleave(torch.tensor([len(layer.scores) for layer in layers]) - counts)
    highest = beyond.sort(descending=True, stable=True).indices[: target - int(counts.sum())]
    added: list[int] = (counts + owners[highest.cpu()].bincount(minlength=len(layers))).tolist()
    return added


def uniformly(layers: Sequence[Layer], target: int) -> list[int]:
    """The same density in each layer, as far as its floor and what is left of it allow."""
    return shared([layer.total for layer in layers], layers, target)


def by_erdos_renyi(layers: Sequence[Layer], target: int) -> list[int]:
    """Densities proportional to ``(fan_in + fan_out + height + width) / (fan_in fan_out height width)``.

    The Erdos-Renyi kernel (ERK; Evci, Gale, Menick, Castro & Elsen, ICML 2020, arXiv 1911.11134, section 3), and for
    linear layers the Erdos-Renyi graph of Mocanu et al. (Nature Communications 2018). Layers that would exceed density
    1, or what is left of them, keep all, and the scale of the others is solved again.
    """
    return shared([layer.total * sum(layer.shape) / np.prod(layer.shape) for layer in layers], layers, target)


def shared(quotas: Sequence[float], layers: Sequence[Layer], target: int) -> list[int]:
    """Whole numbers of exactly ``target`` in all, proportional to the quotas but between what each layer must keep and
    what it has.

    With the bounds ``l`` and ``u`` they are ``clip(s q, l, u)`` for the scale ``s`` at which these add up to the
    target, rounded down, and one more for the layers that this takes most from.
    """
    share = np.asarray(quotas, dtype=float)
    least = np.array([layer.least for layer in layers])
    most = np.array([len(layer.scores) for layer in layers])
    # The sum is piecewise linear and rising in s, so it is interpolated between the scales where a layer meets a bound.
    scales = np.sort(np.concatenate([least / share, most / share]))
    sums = [np.clip(scale * share, least, most).sum() for scale in scales]
    exact = np.clip(np.interp(target, sums, scales) * share, least, most)
    counts = np.clip(np.floor(exact + 1e-6).astype(int), least, most)
    behind = np.argsort(counts - exact, kind="stable")
    counts[behind[: target - counts.sum()]] += 1
    whole: list[int] = counts.tolist()
    return whole


ALLOCATIONS: Mapping[str, Callable[[Sequence[Layer], int], list[int]]] = MappingProxyType(
    {"global": globally, "uniform": uniformly, "erk": by_erdos_renyi}
)
"""Units that each layer keeps of ``target`` in all, by name."""
