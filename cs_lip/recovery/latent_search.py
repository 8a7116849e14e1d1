"""The default solver: a short Adam phase that weeds out starts, then Levenberg-Marquardt on the best."""

import math
from collections.abc import Iterator
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
        descent: what Adam does with every start that is still alive; its ``restarts`` play no part.
        keep: how many starts of each image live on, the best by the objective.
        attempts: how many of those, from the best on, Levenberg-Marquardt refines until the image is explained.
    """

    descent: Adam
    keep: int
    attempts: int


@dataclass(frozen=True)
class LatentSearch:
    """Adam finds the right basin from some of many starts but crawls to its bottom; Levenberg-Marquardt goes down fast
    but only from within it. So the starts come in waves: all of a wave descend a little, the best few a little more
    (successive halving, Jamieson & Talwalkar 2016), and Levenberg-Marquardt refines the best of them. Images that it
    explains down to the noise (`discrepancy_target`) are finished; the others get another wave of fresh starts, which
    helps them more than longer descents from the old ones.

    Images that no wave explains are mostly outside the generator's range. There the objective is rugged, and what helps
    is Adam at a large constant step, which hops between minima: the last round, on the survivors of all waves. Of all
    that was found, an explained row wins before one that is not, and then the lower objective.

    Cost for an in-range image: about 600 forward-backward passes and 15 Jacobians a wave, and one or two waves; for an
    image that no latent explains, about 5500 and 70.

    Attributes:
        rounds: of every wave.
        last: for the images that no wave explains.
        refine: the refinement of the best rows.
        wave: starts of each image in a wave.
        restarts: starts of each image in all waves.
    """

    rounds: tuple[Round, ...] = (
        Round(Adam(steps=30, coarse=True), keep=4, attempts=0),
        Round(Adam(steps=80, coarse=True), keep=4, attempts=2),
    )
    last: Round = field(default_factory=lambda: Round(Adam(steps=400, decay=False, coarse=True), keep=4, attempts=3))
    refine: LevenbergMarquardt = field(default_factory=LevenbergMarquardt)
    wave: int = 10
    restarts: int = 30

    def solve(self, problem: Problem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """One row for every image: the best that was found."""
        starts = Candidates(latents, which, problem.energy(latents, which), torch.ones_like(which, dtype=torch.bool))
        found, survivors = starts.best(problem), starts.take(which[:0])
        for wave in _waves(starts, self.wave):
            alive = wave
            for part in self.rounds:
                alive, found = self._run(part, alive, found, problem, trace)
            survivors = survivors.join(alive)
        return self._run(self.last, survivors.best(problem, self.wave), found, problem, trace)[1]

    def _run(
        self, part: Round, alive: Candidates, found: Candidates, problem: Problem, trace: Trace
    ) -> tuple[Candidates, Candidates]:
        """The rows that outlive the round, and the best row of every image."""
        alive = _of_open_images(alive, problem, found)
        if len(alive.which) == 0:
            return alive, found
        alive = part.descent.solve(problem, alive.latents, alive.which, trace).best(problem, part.keep)
        found = alive.join(found).best(problem)
        for attempt in range(part.attempts):
            chosen = _of_open_images(_nth_of_each(alive, attempt), problem, found)
            refined = self.refine.solve(problem, chosen.latents, chosen.which, trace)
            found = refined.join(found).best(problem)
        return alive, found


def _waves(starts: Candidates, size: int) -> Iterator[Candidates]:
    """The starts in waves of ``size`` for each image."""
    counts = [int((starts.which == image).sum()) for image in range(int(starts.which.max()) + 1)]
    place = torch.cat([torch.arange(count) for count in counts]).to(starts.which.device)
    for number in range(math.ceil(max(counts) / size)):
        yield starts.take(torch.nonzero(place // size == number).flatten())


def _of_open_images(rows: Candidates, problem: Problem, found: Candidates) -> Candidates:
    """The rows of images that nothing found so far explains."""
    done = found.which[problem.explained(found.energy, found.which)]
    return rows.take(torch.nonzero(~torch.isin(rows.which, done)).flatten())


def _nth_of_each(rows: Candidates, n: int) -> Candidates:
    """Of rows sorted best first within each image, every image's n-th (from 0), where there is one."""
    groups = [torch.nonzero(rows.which == image).flatten() for image in range(int(rows.which.max()) + 1)]
    places = torch.cat([group[n : n + 1] for group in groups])
    return rows.take(places)
