"""Levenberg-Marquardt on the latents, the Jacobian by forward mode."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Candidates
from cs_lip.recovery.trace import Trace

SPREAD = (0.1, 1.0, 10.0)
"""The dampings tried in one batch, relative to the current one: three forward passes cost little beside a Jacobian."""

REUSES, PAYS = 6, 0.05
"""A Jacobian is used for up to six more steps, as long as each lowers f by five percent."""

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-9, 1e6


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton on f(z), one row after the other.

    With the residual ``r = A G(z) - y`` and ``J`` the Jacobian of ``A G`` at ``z``, a step solves

        (H + d diag(H)) s = -(J^T r / gain + penalty z) ,   H = J^T J / gain + penalty I ,

    where the damping ``d`` (Marquardt 1963) is the best of three around the last one. It departs from the textbook in
    three places: (1) the dampings are tried in one batch, since a Jacobian costs k forward passes and a trial one; (2)
    the penalty relaxes as the fit improves (`Problem.relaxed_penalty`), so that a noiseless in-range image is found
    exactly and not up to the penalty's bias; (3) H is kept while its steps still pay, the gradient always being exact.

    Cost: k forward passes for an iteration's Jacobian; 4 forward passes, one backward pass and the solution of three
    k x k systems for each of its steps.

    Attributes:
        iterations: Jacobians at most for a row.
        settled, window: a row has settled once the last ``window`` iterations together lowered its squared residual by
            less than the fraction ``settled``.
        restarts: starts an image, when it is the solver on its own. Random starts mostly end in local minima; see
            `cs_lip.recovery.latent_search` for better ones.
    """

    iterations: int = 60
    settled: float = 0.03
    window: int = 3
    restarts: int = 3

    def solve(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Refine every row; they come back in their order."""
        ends, energies, exhausted = [latents[:0]], [latents.new_zeros(0)], []
        with trace.timed("levenberg-marquardt"):
            for row in range(len(latents)):
                latent, energy, ran_out = self._refine(problem, latents[row : row + 1], which[row : row + 1], trace)
                ends.append(latent)
                energies.append(energy)
                exhausted.append(ran_out)
        flags = torch.tensor(exhausted, dtype=torch.bool, device=which.device)
        return Candidates(torch.cat(ends), which, torch.cat(energies), flags)

    def _refine(self, problem: Problem, latent: Tensor, image: Tensor, trace: Trace) -> tuple[Tensor, Tensor, bool]:
        """The refined row, its squared residual, and whether it ran out of iterations."""
        energy, damping = problem.energy(latent, image), 1.0
        energies = [float(energy)]
        for _ in range(self.iterations):
            curvature = _curvature(problem, latent)
            for use in range(1 + REUSES):  # (3)
                penalty = problem.relaxed_penalty(float(energy))  # (2)
                before = problem.objective(energy, latent, penalty)
                trial = _step(problem, latent, image, curvature, penalty, damping, before, patient=use == 0)
                if trial is None:
                    break
                latent, energy, damping = trial
                trace.log("levenberg-marquardt", energy, image)
                if problem.noise == 0 and bool(problem.explained(energy, image)):
                    return latent, energy, False
                if problem.objective(energy, latent, penalty) > (1 - PAYS) * before:
                    break
            energies.append(float(energy))
            settled = len(energies) > self.window and energies[-1] > (1 - self.settled) * energies[-1 - self.window]
            if settled or energies[-1] == energies[-2]:
                return latent, energy, False
        return latent, energy, True


def _curvature(problem: Problem, latent: Tensor) -> Tensor:
    """J^T J / gain at one row, (k, k)."""
    jacobian = problem.linearise(latent[0], coarse=True)
    return jacobian @ jacobian.T / problem.gain


def _step(
    problem: Problem,
    latent: Tensor,
    image: Tensor,
    curvature: Tensor,
    penalty: float,
    damping: float,
    before: Tensor,
    *,
    patient: bool,
) -> tuple[Tensor, Tensor, float] | None:
    """The best of the damped steps: new latent, its squared residual and the damping; None where none improves f.

    The gradient is exact at ``latent`` even where ``curvature`` is from an earlier one. A ``patient`` step raises the
    damping until one improves f.
    """
    _, slope = problem.gradient(latent, image)
    point = latent.flatten()
    gradient = slope.flatten() / 2 + (penalty - problem.penalty) * point
    hessian = curvature + penalty * torch.eye(len(point), dtype=point.dtype, device=point.device)
    # Without a penalty, a latent that the image does not depend on has a zero here, which would undo the damping.
    scale = hessian.diagonal().clamp(min=torch.finfo(point.dtype).eps * float(hessian.diagonal().max()))
    while damping <= LARGEST_DAMPING:
        dampings = damping * torch.tensor(SPREAD, dtype=point.dtype, device=point.device)
        damped = hessian + dampings[:, None, None] * torch.diag(scale)
        steps = torch.linalg.solve_ex(damped, gradient.expand(len(dampings), -1)).result
        trials = (point - steps).reshape(-1, *latent.shape[1:])
        energies = problem.energy(trials, image.expand(len(trials)))  # (1)
        values = problem.objective(energies, trials, penalty)
        values = torch.where(torch.isfinite(values), values, torch.inf)
        best = int(values.argmin())
        if values[best] < before:
            return trials[best : best + 1], energies[best : best + 1], max(float(dampings[best]), SMALLEST_DAMPING)
        if not patient:
            return None
        damping *= SPREAD[-1] / SPREAD[0]
    return None
