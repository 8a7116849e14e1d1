"""How far the measurements of an image are from those that were taken."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import torch
from torch import Tensor

from cs_lip.recovery.median_of_means import MedianOfMeans, check_contamination, smallest

DEFAULT_CONTAMINATION = 0.1
"""What the robust fidelities expect at most where nobody knows; it costs little when fewer measurements are bad."""

CLIP = 1.0
"""Where `Huber` turns from squares to absolute values, in standard deviations of normal residuals. At 1 its scale
withstands any share of outliers below one half (51.6 %), and of clean normal noise it wastes a tenth."""

CUT = 3.0
"""Where `Trimmed` leaves a measurement out, in standard deviations; of normal residuals that is one in 370."""

FLAT_L1 = 1e-3
"""Residuals below this share of the median absolute one get no larger weight, so that a weight stays finite."""


class Fidelity(Protocol):
    """What a residual ``r = A x - y`` costs, in units of ``r^2``: for LeastSquares the sum of squares, for the others
    about as much where the residuals are normal and few are outliers.

    Solvers need it in two forms: its value, and the weights ``w_i``, with which the weighted squared residual
    ``sum_i w_i r_i^2`` has, the weights held fixed, the same gradient ``2 w_i r_i`` (iteratively reweighted least
    squares, Holland & Welsch 1977).
    """

    def misfit(self, residual: Tensor) -> Tensor:
        """The cost of every row, ``(rows,)``, from residuals ``(rows, m)``."""
        ...

    def weights(self, residual: Tensor) -> Tensor:
        """``(rows, m)``, at least 0."""
        ...

    def trusted(self, residual: Tensor) -> Tensor:
        """``(rows, m)``, bool: the measurements by whose residuals it is judged whether an image explains them."""
        ...


@dataclass(frozen=True)
class LeastSquares:
    """``sum_i r_i^2``: the negative log-likelihood of normal noise, up to its variance. Every measurement counts."""

    def misfit(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return residual.square().sum(1)

    def weights(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return torch.ones_like(residual)

    def trusted(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return torch.ones_like(residual, dtype=torch.bool)


@dataclass(frozen=True)
class _Robust:
    """What the robust fidelities share.

    Attributes:
        contamination: the largest share of bad measurements that is reckoned with, in [0, 0.5).

    Raises:
        ValueError: the contamination is not in [0, 0.5).
    """

    contamination: float = DEFAULT_CONTAMINATION

    def __post_init__(self) -> None:
        check_contamination(self.contamination)

    def trusted(self, residual: Tensor) -> Tensor:
        """The share ``1 - contamination`` with the smallest absolute residuals."""
        return smallest(residual, self.contamination)


@dataclass(frozen=True)
class L1(_Robust):
    """``(pi / 2) (sum_i |r_i|)^2 / m``: an outlier pulls no harder than any other measurement.

    The minimiser is that of the absolute deviation; squared, it scales as the squares do whatever the units of ``y``,
    and for normal residuals it equals them on average. Against the penalty of a latent search it weighs the more, the
    larger the outliers are.

    Source: absolute deviations go back to Laplace; for compressive sensing with gross errors Laska, Davenport &
    Baraniuk 2009 (justice pursuit).
    """

    def misfit(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return math.pi / 2 * residual.abs().sum(1).square() / residual.shape[1]

    def weights(self, residual: Tensor) -> Tensor:
        """``(pi / 2) mean|r| / |r_i|``, bounded for ``r_i`` near 0; see `FLAT_L1`."""
        size = residual.abs()
        mean, median = size.mean(1, keepdim=True), size.median(1, keepdim=True).values
        least = torch.maximum(FLAT_L1 * median, torch.finfo(size.dtype).eps * mean)
        return math.pi / 2 * mean / torch.maximum(size, least).clamp(min=torch.finfo(size.dtype).tiny)


@dataclass(frozen=True)
class Huber(_Robust):
    """Squares for small residuals and absolute values for large ones, with the scale ``s`` estimated along.

    With ``H(u) = u^2 / 2`` for ``|u| <= c`` and ``c |u| - c^2 / 2`` beyond, it is

        (1 / (m p^2)) (min_s sum_i [s H(r_i / s) + s b / 2])^2 ,

    where ``c`` is `CLIP`, ``p`` the probability that a standard normal number is within ``c``, and ``b`` its expected
    ``min(u^2, c^2)``. The best ``s`` solves ``mean_i min(r_i^2 / s^2, c^2) = b``, which no outlier can drive beyond a
    bound; since ``s`` is the best, it may be held fixed in the gradient. Squared and divided so, it is in the units of
    the squares and equals them on average for normal residuals. See `L1` for what outliers do to the penalty.

    Source: Huber, Robust Statistics (1981), sections 7.7 and 7.8, the scale by his Proposal 2.
    """

    def misfit(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return (self.weights(residual) * residual.square()).sum(1)

    def weights(self, residual: Tensor) -> Tensor:
        """``(sum_j min(r_j^2 / s, c |r_j|)) / (m p^2) min(1 / s, c / |r_i|)``."""
        size = residual.abs()
        tiny = torch.finfo(size.dtype).eps * size.mean(1, keepdim=True) + torch.finfo(size.dtype).tiny
        scale = torch.maximum(huber_scale(size)[:, None], tiny)
        pull = torch.minimum(1 / scale, CLIP / torch.maximum(size, tiny))
        within = math.erf(CLIP / math.sqrt(2))
        return (size.square() * pull).mean(1, keepdim=True) / within**2 * pull


def huber_scale(size: Tensor) -> Tensor:
    """Huber's Proposal 2: ``s`` with ``mean_i min(r_i^2 / s^2, c^2) = E min(u^2, c^2)``, from |r| ``(rows, m)``.

    Consistent for normal residuals, ``(rows,)``; 0 where too many residuals are.
    """
    m = size.shape[1]
    within, density = math.erf(CLIP / math.sqrt(2)), math.exp(-(CLIP**2) / 2) / math.sqrt(2 * math.pi)
    target = within - 2 * CLIP * density + CLIP**2 * (1 - within)
    squares = size.square().sort(1).values
    sums, beyond = squares.cumsum(1), m - torch.arange(1, m + 1, device=size.device)
    inside = CLIP**2 * (sums + beyond * squares) >= m * target * squares
    count = inside.sum(1, keepdim=True).clamp(min=1)
    left = m * target - CLIP**2 * (m - count)
    return (sums.gather(1, count - 1) / left.clamp(min=torch.finfo(size.dtype).tiny)).sqrt()[:, 0]


@dataclass(frozen=True)
class Trimmed(_Robust):
    """``sum_i min(r_i^2, t^2)``: beyond ``t`` a measurement is left out, and costs the same wherever it is.

    ``t`` is `CUT` standard deviations, estimated from the share ``1 - contamination`` of smallest absolute residuals
    (least trimmed squares), with the factor that makes it right for normal ones. So bad measurements up to that share
    cannot move ``t`` beyond a bound, and where there are fewer, hardly a good one is left out. From residuals of random
    starts it leaves out what is gross compared with the measurements themselves.

    Source: Rousseeuw & Leroy, Robust Regression and Outlier Detection (1987), section 3.4, reweighted least trimmed
    squares, here in one objective.
    """

    def misfit(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        squares = residual.square()
        return torch.minimum(squares, self._cut(squares, self.trusted(residual))).sum(1)

    def weights(self, residual: Tensor) -> Tensor:
        """1 within ``t``, else 0; and, since what is left out costs t^2, a share of that for what makes up ``t``."""
        squares, trusted = residual.square(), self.trusted(residual)
        inside = squares <= self._cut(squares, trusted)
        shared = self._factor() * (~inside).sum(1, keepdim=True).to(residual.dtype) / trusted.sum(1, keepdim=True)
        return inside + shared * trusted

    def _cut(self, squares: Tensor, trusted: Tensor) -> Tensor:
        """``t^2``, (rows, 1)."""
        return self._factor() * (squares * trusted).sum(1, keepdim=True) / trusted.sum(1, keepdim=True)

    def _factor(self) -> float:
        """t^2 over the mean square of the trusted residuals."""
        normal, share = NormalDist(), 1 - self.contamination
        if (1 + share) / 2 == 1:
            return CUT**2
        end = normal.inv_cdf((1 + share) / 2)
        return CUT**2 / (1 - 2 * end * normal.pdf(end) / share)


def _least_squares(contamination: float) -> Fidelity:
    check_contamination(contamination)
    return LeastSquares()


FIDELITIES: dict[str, Callable[[float], Fidelity]] = {
    "least-squares": _least_squares,
    "l1": L1,
    "huber": Huber,
    "trimmed": Trimmed,
    "median-of-means": MedianOfMeans,
}
"""The fidelities by name, each from the contamination that is reckoned with; least squares reckons with none."""
