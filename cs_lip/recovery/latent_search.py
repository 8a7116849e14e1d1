"""The default solver: a short Adam phase that weeds out starts, then Levenberg-Marquardt on the best."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cs_lip.recovery.adam import Adam
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Candidates
from cs_lip.recovery.trace import Trace


@dataclass(frozen=True)
class Round:
    """One round of `LatentSearch`.

    Attributes:
        steps: of Adam on every start that is still alive.
        keep: how many starts of each image live on, the best by the objective.
        attempts: how many of those, from the best on, Levenberg-Marquardt refines until the image is explained.
    """

    steps: int
    keep: int
    attempts: int


@dataclass(frozen=True)
class LatentSearch:
    """Adam finds the right basin from some of many starts but crawls to its bottom; Levenberg-Marquardt goes down fast
    but only from within it. So all starts descend a little, the best few a little more (successive halving, Jamieson &
    Talwalkar 2016), and Levenberg-Marquardt refines the best one. Images that it explains down to the noise
    (`discrepancy_target`) are finished; the others get longer descents and more attempts in the next round. Of all that
    was found the lowest objective wins.

    Cost for an in-range image: about 600 forward-backward passes and 15 Jacobians; for an image that no latent
    explains, about three times that.
    """

    rounds: tuple[Round, ...] = (
        Round(steps=30, keep=4, attempts=0),
        Round(steps=80, keep=4, attempts=1),
        Round(steps=200, keep=4, attempts=4),
    )
    refine: LevenbergMarquardt = field(default_factory=LevenbergMarquardt)
    restarts: int = 10

    def solve(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """One row for every image: the best that was found."""
        alive = Candidates(latents, which, problem.energy(latents, which), torch.ones_like(which, dtype=torch.bool))
        found = alive.best(problem)
        for part in self.rounds:
            alive = _of_open_images(alive, problem, found)
            if len(alive.which) == 0:
                break
            alive = Adam(steps=part.steps).solve(problem, alive.latents, alive.which, trace).best(problem, part.keep)
            found = alive.join(found).best(problem)
            for attempt in range(part.attempts):
                chosen = _of_open_images(_nth_of_each(alive, attempt), problem, found)
                refined = self.refine.solve(problem, chosen.latents, chosen.which, trace)
                found = refined.join(found).best(problem)
        return found


def _of_open_images(rows: Candidates, problem: Problem, found: Candidates) -> Candidates:
    """The rows of images that nothing found so far explains."""
    done = found.which[problem.explained(found.energy, found.which)]
    return rows.take(torch.nonzero(~torch.isin(rows.which, done)).flatten())


def _nth_of_each(rows: Candidates, n: int) -> Candidates:
    """Of rows sorted best first within each image, every image's n-th (from 0), where there is one."""
    groups = [torch.nonzero(rows.which == image).flatten() for image in range(int(rows.which.max()) + 1)]
    places = torch.cat([group[n : n + 1] for group in groups])
    return rows.take(places)
