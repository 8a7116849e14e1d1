"""What the latent searches share: rows of latents, their ranking, and how they answer a task."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem, pose_latents
from cs_lip.recovery.solver import Found, Task, judged
from cs_lip.recovery.trace import Trace
from cs_lip.seeding import stream


@dataclass(frozen=True)
class Candidates:
    """Rows that a latent search ended with.

    Attributes:
        latents: ``(rows, *latent_shape)``.
        which: ``(rows,)``, the image that each row explains.
        residual: ``(rows, m)``, A G(z) - y.
        exhausted: ``(rows,)``, whether the row ran out of iterations while it still improved.
    """

    latents: Tensor
    which: Tensor
    residual: Tensor
    exhausted: Tensor

    def best(self, problem: LatentProblem, keep: int = 1) -> "Candidates":
        """The ``keep`` best rows of every image, best first: chosen by the measurements alone.

        Rows that explain the measurements come before those that do not, and among equals the lower objective wins. By
        the objective alone the penalty's bias would win against an exact fit, which costs a little more in |z|^2.
        """
        objective = problem.objective(self.residual, self.latents)
        objective = torch.where(torch.isfinite(objective), objective, torch.inf)
        ranked = objective.argsort(stable=True)
        unexplained = ~self.explained(problem) | torch.isinf(objective)
        ranked = ranked[unexplained[ranked].int().argsort(stable=True)]
        chosen = [ranked[self.which[ranked] == image][:keep] for image in range(problem.images)]
        return self.take(torch.cat(chosen))

    def explained(self, problem: LatentProblem) -> Tensor:
        """Whether each row explains its measurements, ``(rows,)``."""
        return problem.explained(self.residual, self.which)

    def take(self, rows: Tensor) -> "Candidates":
        """Some of the rows."""
        return Candidates(self.latents[rows], self.which[rows], self.residual[rows], self.exhausted[rows])

    def join(self, other: "Candidates") -> "Candidates":
        """Both together."""
        mine, theirs = vars(self).values(), vars(other).values()
        return Candidates(*(torch.cat(pair) for pair in zip(mine, theirs, strict=True)))


class LatentSolver(ABC):
    """A search over latents: a frozen dataclass of its settings.

    ``restarts`` is how many starts an image it expects by default.
    """

    restarts: int

    @abstractmethod
    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """Improve the starts ``latents`` (rows, *latent_shape); at least one row of every image comes back."""

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`: the best of all starts of every image, by the measurements alone."""
        problem = pose_latents(task.problem, task.generator, task.latent_penalty)
        count = checked_restarts(self.restarts, task.restarts)
        latents, which = random_starts(problem, count, task.seed)
        found = self.solve(problem, latents, which, task.trace).best(problem)
        return drawn(problem, found, {"restarts": count, "latent_penalty": problem.penalty})


def drawn(problem: LatentProblem, best: Candidates, settings: dict[str, Any]) -> Found:
    """The images of one row for each image."""
    with torch.no_grad():
        images = problem.generator(best.latents).contiguous()
    status = judged(problem.problem, best.residual, best.which, best.exhausted)
    return Found(images, best.residual, status, best.latents, settings=settings)


def checked_restarts(own: int, asked: int | None) -> int:
    """The starts of each image: those asked for, or else the solver's own number.

    Raises:
        ValueError: fewer than one.
    """
    count = own if asked is None else asked
    if count < 1:
        raise ValueError(f"the restarts must be at least 1, got {count}; try {own}")
    return count


def random_starts(problem: LatentProblem, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` prior draws for every image, as rows: image i's starts do not depend on how many images there are."""
    latents = [
        problem.generator.sample_latents(count, generator=stream(seed, f"latents/{image}"))
        for image in range(problem.images)
    ]
    which = torch.arange(problem.images, device=problem.problem.measurements.device).repeat_interleave(count)
    return torch.cat(latents), which
