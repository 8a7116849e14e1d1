"""How much to regularise: a path of decreasing lambda, judged by held-out measurements."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cs_lip.recovery.baselines.frame import Array, Estimate, check, held_out_error, held_out_splits, image_by_image
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Found, Task

if TYPE_CHECKING:
    from cs_lip.recovery.baselines.descent import Descent, Watch

NORM_TOLERANCE = 0.1
NORM_MARGIN = 1.1
"""|A|^2 is estimated from below, by a few percent; a step that is longer than its inverse might diverge."""

GAIN = 0.005
"""By how much, relatively, a lower level must be better to be taken: held-out errors differ by chance."""

NO_GAIN_IN_A_ROW = 2
"""After so many levels that are no better than the best, a path ends."""


class Choice(NamedTuple):
    """Where a path ended: the best lambda for all measurements, its coefficients, and every lambda with its error."""

    level: float
    start: Array
    levels: list[float]
    errors: list[float]


@dataclass(frozen=True)
class PenalisedLeastSquares(ABC):
    """``min_c |A W^H c - y|^2 / 2 + lambda g(c)``, lambda by held-out measurements; the image is ``W^H c`` in [0, 1].

    Lambda falls from |W A^H y|_inf / 2, over the coefficients that g penalises, by factors of 2, and each minimisation
    starts where the last one ended (Hale, Yin & Zhang, SIAM J. Optimization 2008). A tenth of the measurements, but at
    least 10, takes no part and judges each level (several random tenths, where one has fewer than 150); after two
    levels in a row that gain nothing on the best the path ends. A last minimisation fits all measurements, with the
    best lambda times the ratio of their numbers. With fewer than 20 measurements lambda is the first of the path that
    explains them down to the stated noise, or else the last. The held-out error estimates the image error for every
    random operator (Boufounos, Duarte & Baraniuk 2007).

    Cost: A and A^H once an iteration, some 300 iterations for each image and split. Memory: a few images.

    Attributes:
        levels: of the path, at most.
        iterations: at each level, at most.
        final_iterations: of the last minimisation, at most.
        tolerance: a minimisation ends with a step that is smaller, relative to the norm of c.
    """

    levels: int = 14
    iterations: int = 40
    final_iterations: int = 100
    tolerance: float = 3e-4

    @abstractmethod
    def descent(self, problem: Problem, squared_norm: float) -> "Descent":
        """The minimisation for one image."""

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: images that are complex or no pictures, or a fidelity other than least squares.
        """
        # PyLops takes its time to load, so it does so where it is needed.
        from cs_lip.recovery.baselines.descent import Watch

        check(task.problem)
        squared_norm = NORM_MARGIN * task.problem.operator.norm(tolerance=NORM_TOLERANCE) ** 2

        def estimate(problem: Problem, index: int) -> Estimate:
            whole = self.descent(problem, squared_norm)
            splits = [(self.descent(kept, squared_norm), out) for kept, out in held_out_splits(problem, task.seed)]
            with task.trace.timed("path"):
                watch = Watch(task.trace, "path", index)
                choice = self._held_out(whole, splits, watch) if splits else self._discrepancy(whole, watch)
            note = {"lambda": choice.level, "lambdas": choice.levels, "held_out_errors": choice.errors}
            note |= {"held_out": sum(out.m for _, out in splits), "held_out_misfit": min(choice.errors, default=None)}
            if not splits:
                # They are explained as they are, and iterating to the end could take that back.
                return Estimate(whole.image(choice.start), note)
            with task.trace.timed("final"):
                watch = Watch(task.trace, "final", index)
                found = whole.minimise(choice.level, choice.start, self.final_iterations, self.tolerance, watch)
            return Estimate(whole.image(found.coefficients), note, not found.still)

        return image_by_image(task, estimate)

    def _levels(self, whole: "Descent") -> list[float]:
        highest = float(np.abs(whole.correlation * whole.penalised).max())
        return [highest * 0.5**step for step in range(1, self.levels + 1)]

    def _held_out(self, whole: "Descent", splits: "list[tuple[Descent, Problem]]", watch: "Watch") -> Choice:
        """The level whose images predict best what they have not seen."""
        levels, errors = self._levels(whole), list[float]()
        points = [np.zeros_like(whole.correlation) for _ in splits]
        best, start = 0, points
        for number, level in enumerate(levels):
            points = [
                fit.minimise(level * fit.problem.m / whole.problem.m, point, self.iterations, self.tolerance, watch)[0]
                for (fit, _), point in zip(splits, points, strict=True)
            ]
            missed = [held_out_error(out, fit.image(point)) for (fit, out), point in zip(splits, points, strict=True)]
            errors.append(float(np.mean(missed)))
            if number == 0 or errors[-1] < (1 - GAIN) * errors[best]:
                best, start = number, points
            if watch.trace.cancelled or number - best >= NO_GAIN_IN_A_ROW:
                break
        return Choice(levels[best], np.stack(start).mean(0), levels[: len(errors)], errors)

    def _discrepancy(self, whole: "Descent", watch: "Watch") -> Choice:
        """The first level that explains the measurements down to the stated noise, or else the last."""
        levels, point = self._levels(whole), np.zeros_like(whole.correlation)
        for level in levels:
            point = whole.minimise(level, point, self.iterations, self.tolerance, watch).coefficients
            residual = whole.problem.residual(whole.image(point)[None].clamp(0, 1), torch.tensor([0]))
            if watch.trace.cancelled or bool(whole.problem.explained(residual, torch.tensor([0]))):
                break
        return Choice(level, point, levels[: levels.index(level) + 1], [])
