"""The contract of a solver, and what the solvers share."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Status
from cs_lip.recovery.trace import Trace


@dataclass(frozen=True)
class Candidates:
    """Rows that a solver ended with.

    Attributes:
        latents: ``(rows, *latent_shape)``.
        which: ``(rows,)``, the image that each row explains.
        energy: ``(rows,)``, squared residuals.
        exhausted: ``(rows,)``, whether the row ran out of iterations while it still improved.
    """

    latents: Tensor
    which: Tensor
    energy: Tensor
    exhausted: Tensor

    def best(self, problem: Problem, keep: int = 1) -> "Candidates":
        """The ``keep`` best rows of every image, best first: chosen by the measurements alone.

        Rows that explain the measurements come before those that do not, and among equals the lower objective wins. By
        the objective alone the penalty's bias would win against an exact fit, which costs a little more in |z|^2.
        """
        objective = problem.objective(self.energy, self.latents)
        objective = torch.where(torch.isfinite(objective), objective, torch.inf)
        ranked = objective.argsort(stable=True)
        unexplained = ~problem.explained(self.energy, self.which) | torch.isinf(objective)
        ranked = ranked[unexplained[ranked].int().argsort(stable=True)]
        chosen = [ranked[self.which[ranked] == image][:keep] for image in range(problem.images)]
        return self.take(torch.cat(chosen))

    def take(self, rows: Tensor) -> "Candidates":
        """Some of the rows."""
        return Candidates(self.latents[rows], self.which[rows], self.energy[rows], self.exhausted[rows])

    def join(self, other: "Candidates") -> "Candidates":
        """Both together."""
        mine, theirs = vars(self).values(), vars(other).values()
        return Candidates(*(torch.cat(pair) for pair in zip(mine, theirs, strict=True)))

    def status(self, problem: Problem) -> tuple[Status, ...]:
        """The `Status` of every row."""
        explained = problem.explained(self.energy, self.which)
        finite = torch.isfinite(problem.objective(self.energy, self.latents))
        return tuple(
            Status.DIVERGED
            if not ok
            else Status.CONVERGED
            if fits
            else Status.MAX_ITERATIONS
            if ran_out
            else Status.STALLED
            for ok, fits, ran_out in zip(finite.tolist(), explained.tolist(), self.exhausted.tolist(), strict=True)
        )


class Solver(Protocol):
    """A latent search algorithm: a frozen dataclass of its settings.

    ``restarts`` is how many starts an image it expects by default.
    """

    @property
    def restarts(self) -> int: ...

    def solve(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Improve the starts ``latents`` (rows, *latent_shape); at least one row of every image comes back."""
        ...
