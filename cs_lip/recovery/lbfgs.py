"""Limited-memory BFGS from every start, by SciPy."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.trace import Trace

RAN_OUT = (1, 99)
"""SciPy's status after the last iteration, and after it was told to stop."""


@dataclass(frozen=True)
class LBFGS(LatentSolver):
    """L-BFGS with a strong-Wolfe line search on f(z) (Liu & Nocedal 1989), one start after the other.

    Each start has its own curvature and its own line search, so the starts cannot share a batch; SciPy's double
    precision iterates are rounded to the generator's precision at each evaluation.

    Cost: a little over one forward and one backward pass an iteration and start.
    """

    iterations: int = 200
    memory: int = 20
    restarts: int = 10

    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Minimise from every start; the rows come back in their order."""
        ends, exhausted = [], []
        with trace.timed("lbfgs"):
            for row in range(len(latents)):
                end, ran_out = self._minimise(problem, latents[row : row + 1], which[row : row + 1], trace)
                ends.append(end)
                exhausted.append(ran_out)
            result = torch.cat(ends)
            residual = problem.residual(result, which)
        return Candidates(result, which, residual, torch.tensor(exhausted, device=which.device))

    def _minimise(self, problem: LatentProblem, latent: Tensor, image: Tensor, trace: Trace) -> tuple[Tensor, bool]:
        def to_latent(vector: NDArray[np.float64]) -> Tensor:
            return torch.as_tensor(vector, dtype=latent.dtype, device=latent.device).reshape(latent.shape)

        def objective(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            point = to_latent(vector)
            residual, gradient = problem.gradient(point, image)
            trace.log("lbfgs", residual, image)
            return float(problem.objective(residual, point)), gradient.flatten().double().cpu().numpy()

        def watch(_: NDArray[np.float64]) -> None:
            if trace.cancelled:
                raise StopIteration  # SciPy's way to be told

        found = minimize(
            objective,
            latent.flatten().double().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            callback=watch,
            options={"maxiter": self.iterations, "maxcor": self.memory},
        )
        return to_latent(found.x), found.status in RAN_OUT
