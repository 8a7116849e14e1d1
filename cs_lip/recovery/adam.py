"""Adam over all starts in one batch: CSGM's search."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.trace import Trace

FLAT = 1e-3
"""Relative decrease of the objective over the last tenth of the steps below which a search has settled."""


@dataclass(frozen=True)
class Adam(LatentSolver):
    """Gradient descent on f(z) with Adam's step sizes (Kingma & Ba 2015), every start a row of the batch.

    ``Adam(steps=1000, learning_rate=0.1, decay=False)`` with 10 restarts is the protocol of CSGM (Bora et al. 2017,
    section 6.1: Adam, learning rate 0.1, 10 random restarts, up to 1000 iterations), registered as solver ``csgm``; the
    solver ``adam`` lets the learning rate decay to a tenth along a cosine, which ends closer to the minimum.

    Cost: one forward and one backward pass a step and start.

    Attributes:
        decay: whether the learning rate falls along a cosine.
        coarse: whether the steps are taken on images in bfloat16 where that is faster (`Problem`): good enough to find
            a basin, not to reach its bottom. The residuals that come back are exact.
    """

    steps: int = 1000
    learning_rate: float = 0.1
    decay: bool = True
    restarts: int = 10
    coarse: bool = False

    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Descend from every start; the rows come back in their order."""
        latents = latents.clone()
        optimiser = torch.optim.Adam([latents], lr=self.learning_rate)
        reference = torch.full_like(which, math.inf, dtype=latents.dtype)
        with trace.timed("adam"):
            for step in range(self.steps):
                if self.decay:
                    optimiser.param_groups[0]["lr"] = self.learning_rate * cosine(step / self.steps)
                residual, latents.grad = problem.gradient(latents, which, coarse=self.coarse)
                trace.log("adam", residual, which)
                if step == int(0.9 * self.steps):
                    reference = problem.objective(residual, latents)
                optimiser.step()
                if trace.cancelled:
                    break
            residual = problem.residual(latents, which)
        improving = problem.objective(residual, latents) < (1 - FLAT) * reference
        return Candidates(latents.detach(), which, residual, improving)


def cosine(progress: float, floor: float = 0.1) -> float:
    """A factor that falls from 1 to ``floor`` along half a cosine (Loshchilov & Hutter 2017, eq. 5)."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
