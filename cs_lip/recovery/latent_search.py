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
    """``steps`` of Adam on every start still alive, after which the best ``keep`` of each image live on."""

    steps: int
    keep: int


@dataclass(frozen=True)
class LatentSearch:
    """Adam finds the right basin from some of many starts but crawls to its bottom; Levenberg-Marquardt goes down fast
    but only from within it. So all starts descend a little, the best few a little more (successive halving, Jamieson &
    Talwalkar 2016), and Levenberg-Marquardt takes the best one. Only images that are still unexplained at the noise
    (`discrepancy_target`) get the next best start refined, up to ``attempts``; the lowest objective wins.

    Cost: ``sum(steps * alive)`` forward-backward passes and about 10 Jacobians an image and attempt.
    """

    rounds: tuple[Round, ...] = (Round(30, keep=4), Round(60, keep=3), Round(150, keep=3))
    attempts: int = 3
    refine: LevenbergMarquardt = field(default_factory=LevenbergMarquardt)
    restarts: int = 10

    def solve(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """One row for every image: the best that was found."""
        ranked = self._weed_out(problem, latents, which, trace)
        found = ranked.best(problem)
        for attempt in range(self.attempts):
            rows = _nth_rows(ranked.which, attempt)
            open_images = which.new_tensor([i for i in range(problem.images) if not _is_explained(problem, found, i)])
            rows = rows[torch.isin(ranked.which[rows], open_images)]
            if len(rows) == 0:
                break
            refined = self.refine.solve(problem, ranked.latents[rows], ranked.which[rows], trace)
            found = refined.join(found).best(problem)
        return found

    def _weed_out(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """The survivors of the Adam rounds, the best of each image first."""
        alive = Candidates(latents, which, problem.energy(latents, which), torch.ones_like(which, dtype=torch.bool))
        for part in self.rounds:
            ended = Adam(steps=part.steps).solve(problem, alive.latents, alive.which, trace)
            alive = ended.best(problem, part.keep)
        return alive


def _nth_rows(which: Tensor, n: int) -> Tensor:
    """Of rows sorted best first within each image, every image's n-th (from 0)."""
    rows = []
    for image in range(int(which.max()) + 1):
        mine = torch.nonzero(which == image).flatten()
        rows.append(mine[n : n + 1])
    return torch.cat(rows)


def _is_explained(problem: Problem, found: Candidates, image: int) -> bool:
    rows = found.which == image
    return bool(problem.explained(found.energy[rows], found.which[rows]).any())
