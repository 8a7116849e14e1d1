"""Total variation of colour pictures, as a function of pyproximal."""

import numpy as np
import pylops
import pyproximal
from pyproximal.optimization.cls_primaldual import PrimalDual
from pyproximal.ProxOperator import ProxOperator

from cs_lip.recovery.baselines.frame import Array

PRIMAL_STEP, DUAL_STEP = 0.3, 0.4
"""Their product times |D|^2 <= 8 must be below 1; among such pairs this one was closest after 10 iterations."""

PROX_ITERATIONS = 5


class VectorialTV(ProxOperator):  # type: ignore[misc]
    """``level * TV`` of flattened float32 images ``(channels, height, width)``, see `TotalVariation`.

    pyproximal's own TV takes channels for a third direction. The proximal operator is iterative, and remembers its dual
    variable: the next call starts from it.
    """

    def __init__(self, shape: tuple[int, ...], level: float) -> None:
        super().__init__(None, False)
        down, right = (pylops.FirstDerivative(shape, axis=axis, kind="forward", dtype=np.float32) for axis in (1, 2))
        self.differences = pylops.VStack([down, right], dtype=np.float32)
        self.directions, self.level = 2 * shape[0], level
        self.dual: Array = np.zeros(self.differences.shape[0], np.float32)

    def __call__(self, x: Array) -> float:
        return float(pyproximal.L21(self.directions, self.level)(self.differences.matvec(x)))

    def prox(self, x: Array, tau: float) -> Array:
        """``argmin_u |u - x|^2 / 2 + tau * level * TV(u)``, ``(n,)``."""
        if self.level == 0:
            return x
        # The dual variable lives in balls of radius tau * level, which stays the same from call to call.
        solver = PrimalDual()
        norm = pyproximal.L21(self.directions, tau * self.level)
        u, _, self.dual, *_ = solver.solve(
            pyproximal.L2(b=x),
            norm,
            self.differences,
            # The best for that dual variable; from any other start few iterations would end beside the solution.
            x - self.differences.rmatvec(self.dual),
            tau=PRIMAL_STEP,
            mu=DUAL_STEP,
            y0=self.dual,
            niter=PROX_ITERATIONS,
        )
        return np.asarray(u, np.float32)
