"""Levenberg-Marquardt on the latents, the Jacobian by forward mode."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Candidates
from cs_lip.recovery.trace import Trace

SPREAD = (0.1, 1.0, 10.0)
"""The dampings tried in one batch, relative to the current one: three forward passes cost little beside a Jacobian."""

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-9, 1e6


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton on f(z), one row after the other.

    With the residual ``r = A G(z) - y`` and ``J`` the Jacobian of ``A G`` at ``z``, a step solves

        (H + d diag(H)) s = -(J^T r / gain + penalty z) ,   H = J^T J / gain + penalty I ,

    where the damping ``d`` (Marquardt 1963) is the best of three around the last one. It departs from the textbook in
    two places, numbered in the code: (1) the dampings are tried in one batch, since a Jacobian costs k forward passes
    and a trial one; (2) the penalty relaxes as the fit improves (`Problem.relaxed_penalty`), so that a noiseless
    in-range image is found exactly and not up to the penalty's bias.

    Cost: k + 3 forward passes an iteration, and one factorisation of a k x k matrix a trial.

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
            penalty = problem.relaxed_penalty(float(energy))
            before = problem.objective(energy, latent, penalty)
            trial = _step(problem, latent, image, penalty, damping, before)
            if trial is None:
                return latent, energy, False
            latent, energy, damping = trial
            energies.append(float(energy))
            trace.log("levenberg-marquardt", energy, image)
            settled = len(energies) > self.window and energies[-1] > (1 - self.settled) * energies[-1 - self.window]
            if settled or (problem.noise == 0 and bool(problem.explained(energy, image))):
                return latent, energy, False
        return latent, energy, True


def _step(
    problem: Problem, latent: Tensor, image: Tensor, penalty: float, damping: float, before: Tensor
) -> tuple[Tensor, Tensor, float] | None:
    """The best of the damped steps: new latent, its squared residual and the damping; None where none improves f."""
    jacobian = problem.linearise(latent[0])
    with torch.no_grad():
        residual = (problem.measure(latent) - problem.measurements[image])[0]
        point = latent.flatten()
        hessian = jacobian @ jacobian.T / problem.gain
        hessian.diagonal().add_(penalty)
        gradient = jacobian @ residual / problem.gain + penalty * point
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
            damping *= SPREAD[-1] / SPREAD[0]
    return None
