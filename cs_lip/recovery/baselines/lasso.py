"""Images that are sparse in cosines or wavelets: the lasso."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cs_lip.recovery.baselines.frame import Transform
from cs_lip.recovery.baselines.path import PenalisedLeastSquares
from cs_lip.recovery.problem import Problem

if TYPE_CHECKING:
    from cs_lip.recovery.baselines.descent import Descent


@dataclass(frozen=True)
class Lasso(PenalisedLeastSquares):
    """``min_c |A W^H c - y|^2 / 2 + lambda |c|_1``, where ``W`` is an orthonormal transform.

    ``dct`` is the discrete cosine transform (type 2) over height and width; ``wavelet`` Daubechies' wavelets of four
    vanishing moments, periodised, down to approximations of 4x4, where sides that are no power of 2 are padded with
    zeros up to one. Either is taken of the cosine transform over the channels, which tells the brightness of a colour
    picture from two differences of colour. The mean of each channel and the approximations are not sparse, and cost
    nothing.

    Source: Tibshirani, J. Royal Statistical Society B 1996; Chen, Donoho & Saunders, Atomic Decomposition by Basis
    Pursuit, 1998, section 5. See `PenalisedLeastSquares` for how it is solved, lambda and the cost.

    Attributes:
        transform: ``dct`` or ``wavelet``.
    """

    transform: Transform = "dct"

    def descent(self, problem: Problem, squared_norm: float) -> "Descent":
        """See `PenalisedLeastSquares`."""
        import pyproximal

        from cs_lip.recovery.baselines.descent import Descent
        from cs_lip.recovery.baselines.sparsity import sparsifying

        W, penalised = sparsifying(self.transform, problem.operator.in_shape)
        return Descent(problem, W, lambda level: pyproximal.L1(level * penalised), penalised, squared_norm)
