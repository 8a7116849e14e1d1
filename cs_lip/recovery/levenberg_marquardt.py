"""Levenberg-Marquardt on the latents, the Jacobian by forward mode."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.levenberg_marquardt_steps import Curvature, DenseCurvature, MatrixFreeCurvature
from cs_lip.recovery.trace import Trace

SPREAD = (0.1, 1.0, 10.0)
"""The dampings tried in one batch, relative to the current one: three forward passes cost little beside a Jacobian."""

PAYS = 0.05
"""A curvature is used again as long as each step lowers f by five percent."""

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-9, 1e6


@dataclass(frozen=True)
class LevenbergMarquardt(LatentSolver):
    """Damped Gauss-Newton on f(z), one row after the other.

    With the residual ``r = A G(z) - y``, ``W`` the fidelity's weights (1 for least squares) and ``J`` the Jacobian of
    ``A G`` at ``z``, a step solves

        (H + d diag(H)) s = -(J^T W r / gain + penalty z) ,   H = J^T W J / gain + penalty I ,

    where the damping ``d`` (Marquardt 1963) is the best of three around the last one. It departs from the textbook in
    four places: (1) the dampings are tried in one batch, since a Jacobian costs k forward passes and a trial one; (2)
    the penalty relaxes as the fit improves (`Problem.relaxed_penalty`), so that a noiseless in-range image is found
    exactly and not up to the penalty's bias; (3) H is kept while its steps still pay; (4) J is multiplied in bfloat16
    where that is faster. Residual and gradient are always exact, so (3) and (4) cost iterations but no accuracy.

    Above ``dense_up_to`` latents no Jacobian is formed: conjugate gradients solve the three systems together, down
    to three tenths of the gradient, with ``c I`` for ``diag(H)`` (`MatrixFreeCurvature`), and (3) and (4) do not apply.

    Cost: k forward passes for an iteration's Jacobian; 4 forward passes, one backward pass and the solution of three
    k x k systems for each of its steps. Without a Jacobian, a tangent and a backward pass for each conjugate gradient
    instead, at most k and as a rule far fewer.

    Attributes:
        iterations: Jacobians at most for a row.
        settled, window: a row has settled once the last ``window`` iterations together lowered its mean squared
            residual, over the measurements that the fidelity trusts, by less than the fraction ``settled``.
        restarts: starts an image, when it is the solver on its own. Random starts mostly end in local minima; see
            `cs_lip.recovery.latent_search` for better ones.
        dense_up_to: the most latents, k, for which Jacobians are formed.
    """

    iterations: int = 60
    settled: float = 0.03
    window: int = 3
    restarts: int = 3
    dense_up_to: int = 256

    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Refine every row; they come back in their order."""
        ends, residuals, exhausted = [latents[:0]], [problem.problem.measurements[:0]], []
        with trace.timed("levenberg-marquardt"):
            for row in range(len(latents)):
                latent, residual, ran_out = self._refine(problem, latents[row : row + 1], which[row : row + 1], trace)
                ends.append(latent)
                residuals.append(residual)
                exhausted.append(ran_out)
        flags = torch.tensor(exhausted, dtype=torch.bool, device=which.device)
        return Candidates(torch.cat(ends), which, torch.cat(residuals), flags)

    def _refine(
        self, problem: LatentProblem, latent: Tensor, image: Tensor, trace: Trace
    ) -> tuple[Tensor, Tensor, bool]:
        """The refined row, its residual, and whether it ran out of iterations."""
        residual, damping = problem.residual(latent, image), 1.0
        levels = [float(problem.problem.variance(residual))]
        for _ in range(self.iterations):
            curvature = self._curvature(problem, latent, residual, damping)
            for use in range(1 + curvature.reuses):  # (3)
                penalty = problem.relaxed_penalty(residual)  # (2)
                before = problem.objective(residual, latent, penalty)
                trial = _step(problem, latent, image, curvature, penalty, damping, before, patient=use == 0)
                if trial is None:
                    break
                latent, residual, damping = trial
                trace.log("levenberg-marquardt", residual, image)
                if trace.cancelled or (problem.problem.noise == 0 and bool(problem.explained(residual, image))):
                    return latent, residual, trace.cancelled
                if problem.objective(residual, latent, penalty) > (1 - PAYS) * before:
                    break
            levels.append(float(problem.problem.variance(residual)))
            settled = len(levels) > self.window and levels[-1] > (1 - self.settled) * levels[-1 - self.window]
            if settled or levels[-1] == levels[-2]:
                return latent, residual, False
        return latent, residual, True

    def _curvature(self, problem: LatentProblem, latent: Tensor, residual: Tensor, damping: float) -> Curvature:
        if latent[0].numel() <= self.dense_up_to:
            return DenseCurvature(problem, latent, residual)  # (4)
        return MatrixFreeCurvature(problem, latent, residual, damping * SPREAD[0])


def _step(
    problem: LatentProblem,
    latent: Tensor,
    image: Tensor,
    curvature: Curvature,
    penalty: float,
    damping: float,
    before: Tensor,
    *,
    patient: bool,
) -> tuple[Tensor, Tensor, float] | None:
    """The best of the damped steps: new latent, its residual and the damping; None where none improves f.

    The gradient is exact at ``latent`` even where ``curvature`` is from an earlier one. A ``patient`` step raises the
    damping until one improves f.
    """
    _, slope = problem.gradient(latent, image)
    point = latent.flatten()
    gradient = slope.flatten() / 2 + (penalty - problem.penalty) * point
    damped = curvature.damped(gradient, penalty)
    while damping <= LARGEST_DAMPING:
        dampings = damping * torch.tensor(SPREAD, dtype=point.dtype, device=point.device)
        trials = (point - damped(dampings)).reshape(-1, *latent.shape[1:])
        residuals = problem.residual(trials, image.expand(len(trials)))  # (1)
        values = problem.objective(residuals, trials, penalty)
        values = torch.where(torch.isfinite(values), values, torch.inf)
        best = int(values.argmin())
        if values[best] < before:
            return trials[best : best + 1], residuals[best : best + 1], max(float(dampings[best]), SMALLEST_DAMPING)
        if not patient:
            return None
        damping *= SPREAD[-1] / SPREAD[0]
    return None
