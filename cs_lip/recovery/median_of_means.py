"""The median over blocks of measurements: outliers spoil some blocks, and the median is none of them."""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

OFTEN_CLEAN, RARELY_CLEAN = 0.7, 0.6
"""How probably a block of the size that is chosen has no outlier, and the probability below which we warn: that many
blocks must be clean for the middle ones to be."""

LEAST_BLOCKS, SMALLEST_BLOCK = 9, 2

MIDDLE = 0.2
"""The share of blocks around the median that counts: a smoothed median."""

PARTITIONS = 20
"""So that a measurement is in a middle block four times on average."""


def check_contamination(contamination: float) -> None:
    """Refuse a share of bad measurements that no estimator could withstand, or that is none.

    Raises:
        ValueError: it is not in [0, 0.5).
    """
    if not 0 <= contamination < 0.5:
        raise ValueError(
            f"the contamination must be a share from 0 to below one half, got {contamination}: were half of the "
            "measurements bad, they could speak for another image; try 0.1"
        )


def smallest(residual: Tensor, contamination: float) -> Tensor:
    """The share ``1 - contamination`` of smallest absolute residuals in every row, ``(rows, m)``, bool."""
    m = residual.shape[1]
    dropped = math.ceil(contamination * m - 1e-9)
    order = residual.abs().nan_to_num(nan=torch.inf).argsort(dim=1, stable=True)
    return torch.ones_like(residual, dtype=torch.bool).scatter(1, order[:, m - dropped :], value=False)


@dataclass(frozen=True)
class MedianOfMeans:
    """``m`` times the median over blocks of the block's mean squared residual, smoothed.

    One partition of the m measurements into blocks of ``b`` gives a median block, clean as long as more than half of
    the blocks are, but with too few measurements to fit an image to. So it is the mean over the blocks of the middle
    fifth, and over several random partitions, always the same ones; the weights say how often a measurement is in a
    middle block. What chooses blocks by their residuals chooses among good measurements too: on these the image is
    noisier than by `Trimmed`, and the more so the smaller the blocks. A block is clean with probability
    ``(1 - contamination)^b``: by default ``b`` is the largest for which that is 0.7, though at least 2 and at most m/9.

    Source: Lecue & Lerasle, Robust machine learning by median-of-means: theory and practice, Annals of Statistics 2020,
    with the partition drawn anew in the descent; for generators Jalal, Liu, Dimakis & Caramanis, Robust Compressed
    Sensing using Generative Models, NeurIPS 2020, whose min-max form is `cs_lip.recovery.min_max.MinMax`.

    Attributes:
        contamination: the largest share of bad measurements that is reckoned with, in [0, 0.5).
        block_size: ``b``; None for the default.

    Raises:
        ValueError: the contamination is not in [0, 0.5), a block size below 1, or, once residuals come, fewer
            than three blocks.

    Warns:
        UserWarning: a block is clean less often than not.
    """

    contamination: float = 0.1
    block_size: int | None = None

    def __post_init__(self) -> None:
        check_contamination(self.contamination)
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(f"the block size must be at least 1, got {self.block_size}; try 10")
        fitting = _fitting_size(self.contamination)
        size = self.block_size or max(SMALLEST_BLOCK, fitting)
        clean = (1 - self.contamination) ** size
        if clean < RARELY_CLEAN:
            cure = f"blocks of {fitting}" if fitting < size and self.block_size else "the fidelity trimmed"
            warnings.warn(
                f"with a contamination of {self.contamination:g} a block of {size} measurements is clean only with "
                f"probability {clean:.2f}, so that the middle blocks are hardly; try {cure}",
                stacklevel=2,
            )

    def misfit(self, residual: Tensor) -> Tensor:
        """See `cs_lip.recovery.fidelity.Fidelity`."""
        return (self.weights(residual) * residual.square()).sum(1)

    def weights(self, residual: Tensor) -> Tensor:
        """See `cs_lip.recovery.fidelity.Fidelity`: how often each is in a middle block, m in all."""
        rows, m = residual.shape
        size = self.size(m)
        blocks = partitions(m, size, PARTITIONS).to(residual.device)
        chosen = middle_blocks(residual.square()[:, blocks].mean(3))
        members = blocks.expand(rows, -1, -1, -1).gather(2, chosen[..., None].expand(-1, -1, -1, size))
        share = residual.new_full((rows, members[0].numel()), m / members[0].numel())
        return torch.zeros_like(residual).scatter_add(1, members.flatten(1), share)

    def trusted(self, residual: Tensor) -> Tensor:
        """The share ``1 - contamination`` with the smallest absolute residuals."""
        return smallest(residual, self.contamination)

    def size(self, m: int) -> int:
        """``b`` for ``m`` measurements."""
        if self.block_size is None:
            return max(1, min(max(SMALLEST_BLOCK, _fitting_size(self.contamination)), m // LEAST_BLOCKS))
        if m < 3 * self.block_size:
            raise ValueError(
                f"blocks of {self.block_size} out of {m} measurements are fewer than three, which have no median to "
                f"speak of; try a block size of {max(1, m // LEAST_BLOCKS)}"
            )
        return self.block_size


def partitions(m: int, size: int, count: int) -> Tensor:
    """``count`` random partitions of m places into blocks, ``(count, m // size, size)``; always the same ones.

    Where ``size`` does not divide m, each partition leaves a few places out, and every time others.
    """
    return _partitions(m, size, count)


@lru_cache(maxsize=4)
def _partitions(m: int, size: int, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.stack([blocks_of(torch.randperm(m, generator=rng), size) for _ in range(count)])


def blocks_of(order: Tensor, size: int) -> Tensor:
    """Places ``(m,)`` in blocks, ``(m // size, size)``; what is left over is in none."""
    return order[: len(order) // size * size].reshape(-1, size)


def middle_blocks(losses: Tensor) -> Tensor:
    """The places of the blocks around the median along the last dimension: a fifth of them, or at least one or two."""
    count = losses.shape[-1]
    skipped = math.floor((1 - MIDDLE) / 2 * count)
    return losses.argsort(dim=-1, stable=True)[..., skipped : count - skipped]


def _fitting_size(contamination: float) -> int:
    """The largest block that is clean with probability `OFTEN_CLEAN`, at least 1."""
    return max(1, math.floor(math.log(OFTEN_CLEAN) / min(math.log1p(-contamination), -1e-9)))
