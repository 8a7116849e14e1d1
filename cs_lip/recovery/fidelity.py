"""How far the measurements of an image are from those that were taken."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Fidelity(Protocol):
    """A sum ``sum_i rho(r_i)`` over the residual ``r = A x - y``.

    Solvers need it in two forms: its value, and the weights ``w_i = rho'(r_i) / (2 r_i)``, with which the weighted
    squared residual ``sum_i w_i r_i^2`` has the same gradient (iteratively reweighted least squares, Holland &
    Welsch 1977).
    """

    def misfit(self, residual: Tensor) -> Tensor:
        """``sum_i rho(r_i)`` of every row, from residuals ``(rows, m)``."""
        ...

    def weights(self, residual: Tensor) -> Tensor:
        """``(rows, m)``, at least 0."""
        ...

    def trusted(self, residual: Tensor) -> Tensor:
        """``(rows, m)``, bool: the measurements by whose residuals it is judged whether an image explains them."""
        ...


@dataclass(frozen=True)
class LeastSquares:
    """``rho(r) = r^2``: the negative log-likelihood of normal noise, up to its variance. Every measurement counts."""

    def misfit(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return residual.square().sum(1)

    def weights(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return torch.ones_like(residual)

    def trusted(self, residual: Tensor) -> Tensor:
        """See `Fidelity`."""
        return torch.ones_like(residual, dtype=torch.bool)
