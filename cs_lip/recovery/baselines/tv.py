"""Images of small total variation."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cs_lip.recovery.baselines.path import PenalisedLeastSquares
from cs_lip.recovery.problem import Problem

if TYPE_CHECKING:
    from cs_lip.recovery.baselines.descent import Descent


@dataclass(frozen=True)
class TotalVariation(PenalisedLeastSquares):
    """``min_x |A x - y|^2 / 2 + lambda TV(x)``, where ``TV(x) = sum_p |(D x)_p|`` over pixels p.

    ``(D x)_p`` holds the forward differences of all channels down and to the right, 0 at the border, so that edges of
    the channels are drawn to the same places.

    Source: Rudin, Osher & Fatemi, Physica D 1992; for colours Bresson & Chan, Inverse Problems and Imaging 2008,
    section 2. See `PenalisedLeastSquares` for how it is solved, lambda and the cost; besides, an iteration takes 5 of
    a primal-dual denoising (Chambolle & Pock 2011), each starting from the edges of the one before.
    """

    def descent(self, problem: Problem, squared_norm: float) -> "Descent":
        """See `PenalisedLeastSquares`."""
        import pylops

        from cs_lip.recovery.baselines.descent import Descent
        from cs_lip.recovery.baselines.vectorial_tv import VectorialTV

        shape = problem.operator.in_shape
        every = np.ones(math.prod(shape), np.float32)
        identity = pylops.Identity(every.size, dtype=np.float32)
        return Descent(problem, identity, lambda level: VectorialTV(shape, level), every, squared_norm)
