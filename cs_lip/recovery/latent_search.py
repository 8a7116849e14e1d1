"""The default solver: a short Adam phase that weeds out starts, then Levenberg-Marquardt on the best."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cs_lip.priors import Encoder
from cs_lip.recovery.adam import Adam
from cs_lip.recovery.latent_problem import LatentProblem, pose_latents
from cs_lip.recovery.latent_solver import Candidates, LatentSolver, checked_restarts, drawn, random_starts
from cs_lip.recovery.learned_start import learned_starts
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.solver import Found, Task
from cs_lip.recovery.trace import Trace


@dataclass(frozen=True)
class Round:
    """One round of `LatentSearch`.

    Attributes:
        descent: what Adam does with every start that is still alive; its ``restarts`` play no part.
        keep: the share of the wave that lives on, the best by the objective; at least one start of each image.
    """

    descent: Adam
    keep: float


@dataclass(frozen=True)
class LatentSearch(LatentSolver):
    """Adam finds the right basin from some of many starts but crawls to its bottom; Levenberg-Marquardt goes down fast
    but only from within it. So the starts come in waves: all of a wave descend a little, the best few a little more
    (successive halving, Jamieson & Talwalkar 2016), and Levenberg-Marquardt refines the best of them, one for every ten
    starts. Images that it explains down to the noise (`discrepancy_target`) are finished; the others get another wave
    of fresh starts, which helps them more than longer descents from the old ones. Each wave has ten starts more than
    the one before, since a row costs less in a larger batch.

    Where the generator has a learned start, the refinement is tried from the encoder's guesses before any wave. Images
    that no wave explains are mostly outside the generator's range. There the objective is rugged, and what helps is
    Adam at a large constant step, which hops between minima: the last round, on the survivors of all waves. Of all that
    was found, an explained row wins before one that is not, and then the lower objective.

    Cost for an in-range image: about 600 forward-backward passes and 15 Jacobians for every ten starts, and one or two
    waves; for an image that no latent explains, about 7600 and 100.

    Attributes:
        rounds: of every wave.
        last: for the images that no wave explains, on the best ``wave`` survivors; None to leave them at that.
        refine: the refinement of the best rows of a wave, and of the last round.
        scout: the refinement of learned starts; it gives up early, since from those it gets on fast or not at all.
        wave: starts of each image in the first wave, starts for one refined row, and by how many the waves grow.
        restarts: starts of each image in all waves.
        learned: starts of each image that come before the waves, where there is an encoder.
    """

    rounds: tuple[Round, ...] = (
        Round(Adam(steps=30, coarse=True), keep=0.4),
        Round(Adam(steps=80, coarse=True), keep=0.4),
    )
    last: Round | None = field(default_factory=lambda: Round(Adam(steps=400, decay=False, coarse=True), keep=0.1))
    refine: LevenbergMarquardt = field(default_factory=LevenbergMarquardt)
    scout: LevenbergMarquardt = field(default_factory=lambda: LevenbergMarquardt(settled=0.1))
    wave: int = 10
    restarts: int = 60
    learned: int = 3

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`; with the task's encoder, its learned starts come first."""
        problem = pose_latents(task.problem, task.generator, task.latent_penalty)
        count = checked_restarts(self.restarts, task.restarts)
        found = None if task.encoder is None else self._from_learned(problem, task, task.encoder)
        learned = 0 if found is None else self.learned
        settings = {"restarts": count, "latent_penalty": problem.penalty, "learned_starts": learned}
        if found is None or not found.explained(problem).all():
            found = self._in_waves(problem, *random_starts(problem, count, task.seed), task.trace, found)
        return drawn(problem, found, settings)

    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """One row for every image: the best that was found."""
        return self._in_waves(problem, latents, which, trace, None)

    def _from_learned(self, problem: LatentProblem, task: Task, encoder: Encoder) -> Candidates:
        """The best that the refinement finds from learned starts, one after the other until one explains the image."""
        rows = _untried(problem, *learned_starts(problem, encoder, self.learned, task.seed))
        found = self._tried(rows.best(problem), problem, task.trace)
        for place in range(self.learned):
            chosen = _of_open_images(_nth_of_each(rows, place), problem, found)
            found = self.scout.solve(problem, chosen.latents, chosen.which, task.trace).join(found).best(problem)
        return found

    def _in_waves(
        self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace, found: Candidates | None
    ) -> Candidates:
        starts = _untried(problem, latents, which)
        found = self._tried(starts.best(problem), problem, trace) if found is None else found
        survivors = starts.take(which[:0])
        for wave in _waves(starts, self.wave):
            alive, found = self._search(self.rounds, wave, found, problem, trace)
            survivors = survivors.join(alive)
        if self.last is None:
            return found
        return self._search((self.last,), survivors.best(problem, self.wave), found, problem, trace)[1]

    def _tried(self, best: Candidates, problem: LatentProblem, trace: Trace) -> Candidates:
        """The best row of every image; one that explains its image before any refinement, as many do under heavy noise,
        is refined now, since it ends the search."""
        rows = best.take(torch.nonzero(best.explained(problem)).flatten())
        if len(rows.which) == 0:
            return best
        return self.refine.solve(problem, rows.latents, rows.which, trace).join(best).best(problem)

    def _search(
        self, rounds: tuple[Round, ...], rows: Candidates, found: Candidates, problem: LatentProblem, trace: Trace
    ) -> tuple[Candidates, Candidates]:
        """The rows that outlive the rounds, and the best row of every image so far."""
        alive = _of_open_images(rows, problem, found)
        if len(alive.which) == 0:
            return alive, found
        starts = _most_of_an_image(alive)
        for part in rounds:
            kept = math.ceil(part.keep * starts)
            alive = part.descent.solve(problem, alive.latents, alive.which, trace).best(problem, kept)
        found = self._tried(alive.best(problem), problem, trace).join(found).best(problem)
        for place in range(math.ceil(starts / self.wave)):
            chosen = _of_open_images(_nth_of_each(alive, place), problem, found)
            refined = self.refine.solve(problem, chosen.latents, chosen.which, trace)
            found = refined.join(found).best(problem)
        return alive, found


def _untried(problem: LatentProblem, latents: Tensor, which: Tensor) -> Candidates:
    """Starts as rows."""
    return Candidates(latents, which, problem.residual(latents, which), torch.ones_like(which, dtype=torch.bool))


def _waves(starts: Candidates, size: int) -> Iterator[Candidates]:
    """The starts in waves of ``size``, 2 ``size``, 3 ``size``, ... for each image."""
    place, begin, number = _place_in_image(starts), 0, 1
    while begin < _most_of_an_image(starts):
        end = begin + number * size
        yield starts.take(torch.nonzero((place >= begin) & (place < end)).flatten())
        begin, number = end, number + 1


def _of_open_images(rows: Candidates, problem: LatentProblem, found: Candidates) -> Candidates:
    """The rows of images that nothing found so far explains."""
    done = found.which[found.explained(problem)]
    return rows.take(torch.nonzero(~torch.isin(rows.which, done)).flatten())


def _place_in_image(rows: Candidates) -> Tensor:
    """For every row how many rows of its image come before it."""
    order, counts = rows.which.argsort(stable=True), rows.which.bincount()
    begins = counts.cumsum(0) - counts
    place = torch.empty_like(rows.which)
    place[order] = torch.arange(len(order), device=order.device) - begins[rows.which[order]]
    return place


def _most_of_an_image(rows: Candidates) -> int:
    return int(rows.which.bincount().max())


def _nth_of_each(rows: Candidates, n: int) -> Candidates:
    """Of rows sorted best first within each image, every image's n-th (from 0), where there is one."""
    return rows.take(torch.nonzero(_place_in_image(rows) == n).flatten())
