"""Descent on what draws an image, beyond a generator's range: stopped by held-out measurements, then repeated on all.

What moves differs from solver to solver (weights, activations) and is handed in; how it moves, and when it stops, is
here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cs_lip.recovery.back_projection import back_project, error_variance
from cs_lip.recovery.early_stopping import LATE, CrossValidation
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Status
from cs_lip.recovery.solver import Found, Note, Solver, Task, judged
from cs_lip.recovery.total_variation import total_variation
from cs_lip.recovery.trace import Trace

EVERY = 10
"""Iterations between two looks at the held-out measurements."""

RATE, RATE_GROWS = 1e-4, 3000

LONGER = 2
"""How many times as long as the first of an image's drawings the others may take to fit as well."""

TV_BY_COUNT, TV_BY_NOISE = 0.45, 0.5


class Drawing(ABC):
    """One image, and what may move to change it."""

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for Adam, each with ``params`` and the ``lr`` relative to the solver's learning rate."""

    @abstractmethod
    def image(self) -> Tensor:
        """``(1, *image_shape)``, differentiable."""

    def project_(self) -> None:  # noqa: B027 - most drawings may go anywhere
        """Put what moved back to where it may be, after a step."""


@dataclass(frozen=True)
class Tuning:
    """How a drawing is tuned.

    Minimised is for every image, with gain = ||A||_F^2 / n,

        rho(A x - y) / (gain n) + total_variation TV(x) ,   x the drawing,

    by Adam. A part of the measurements is held out, and the iterate with the least misfit there says how many
    iterations are right; then the drawing starts anew and takes as many on all measurements. What is fitted to the
    others starts from latents that are found by them alone, since those that all measurements found fit the held-out
    ones too well: with half as many latents as measurements, their misfit is less than a third of what it should be.
    Where there are several drawings of an image, the others follow until they fit as well, and the mean of all is what
    comes out. A regularised back-projection (`back_project`) follows where the fidelity is least squares. Where no
    iterate misses the held-out measurements by less than where it started, that is all that happens. Where this is
    cancelled, the drawing comes out as far as it has come on all measurements, or the mean of the iterates with the
    least held-out misfit, where that is below the misfit that the drawing has left.

    Attributes:
        iterations: at most that many in either pass.
        learning_rate: of Adam; None for 1e-4 max(1, m / 3000), since more measurements take longer to fit.
        total_variation: weight of TV; None for max(0.45 / sqrt(m), noise / (2 sqrt(gain))), of which the first term was
            tuned on photographs and the second suits denoising.
        held_out: fraction of the measurements; None for a tenth, but no fewer than ten of them.
        folds: fits with different measurements held out, whose misfits are averaged; None as for `Problem.splits`.
        patience: iterations without a lower held-out misfit after which an image is done.
    """

    iterations: int = 600
    learning_rate: float | None = None
    total_variation: float | None = None
    held_out: float | None = None
    folds: int | None = None
    patience: int = 80

    def __post_init__(self) -> None:
        """Refuse settings that make no descent."""
        for name in ("iterations", "patience", "folds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"the {name} must be at least 1, got {value}; try the default")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"the learning rate must be a number above 0, got {self.learning_rate}; try 1e-4")
        if self.total_variation is not None and not 0 <= self.total_variation < math.inf:
            raise ValueError(f"the weight of TV must be a number from 0 on, got {self.total_variation}; try 0")

    def splits(self, task: Task) -> list[tuple[Problem, Problem]]:
        """What is fitted to and what is held out, one pair a fit; to be asked for before what takes long.

        Raises:
            ValueError: the held-out fraction leaves fewer than ten measurements on either side, or too few for the
                fidelity.
        """
        splits = task.problem.splits(task.seed, self.held_out, self.folds)
        for _, held in splits:
            held.misfit(torch.zeros_like(held.measurements[:1]))
        return splits

    def rate(self, problem: Problem) -> float:
        """The learning rate for a problem."""
        return RATE * max(1, problem.m / RATE_GROWS) if self.learning_rate is None else self.learning_rate

    def weight(self, problem: Problem) -> float:
        """The weight of TV for a problem."""
        if self.total_variation is not None:
            return self.total_variation
        return max(TV_BY_COUNT / math.sqrt(problem.m), TV_BY_NOISE * problem.noise / math.sqrt(problem.gain))


@dataclass(frozen=True)
class Tuned:
    """Drawings after their descent on all measurements, one a row.

    Attributes:
        images: ``(rows, *image_shape)``, their means, back-projected.
        drawings: the first of each image, where it ended.
        exhausted: ``(rows,)``, whether the held-out misfit still fell when the iterations ran out.
        notes: one a row.
    """

    images: Tensor
    drawings: Sequence[Drawing]
    exhausted: Tensor
    notes: tuple[Note, ...]


def tune(
    task: Task,
    which: Tensor,
    latents: Tensor,
    make: Callable[[Tensor], Sequence[Drawing]],
    tuning: Tuning,
    *,
    blind: Solver,
    phase: str,
    others: Sequence[Callable[[Tensor], Sequence[Drawing]]] = (),
) -> Tuned:
    """Tune drawings of some images.

    Args:
        which: ``(rows,)``, the images.
        latents: ``(rows, *latent_shape)``, which all measurements found.
        make: from latents a drawing of every image as it is before the first iteration, new at each call.
        blind: finds latents from the measurements that a fit keeps.
        others: each gives a further drawing of every image, from where the first ones ended, ``(rows,
            *image_shape)``.
        phase: the name of the first pass in history and timings; the second is ``phase-again``.

    Raises:
        ValueError: as `Tuning.splits`.
    """
    problem, splits = task.problem, tuning.splits(task)
    rules = [
        CrossValidation(max(1, tuning.patience // EVERY), [held.only(image[None]) for _, held in splits])
        for image in which
    ]
    starts = [_blind_latents(task, blind, which, kept, latents) for kept, _ in splits]
    with task.trace.timed(phase):
        pairs = zip(splits, starts, strict=True)
        fits = [_Descent(kept, which, make(start), tuning, task.trace, phase) for (kept, _), start in pairs]
        _watch(fits, rules, tuning.iterations)
    stops = torch.tensor([EVERY * max(0, rule.iteration - 1) for rule in rules], device=which.device)
    again = _Descent(problem, which, make(latents), tuning, task.trace, f"{phase}-again")
    with task.trace.timed(again.phase):
        first, fitted = again.descend(stops)
        further = [_Descent(problem, which, other(first), tuning, task.trace, again.phase) for other in others]
        drawn = [first, *(descent.descend(stops, fitted)[0] for descent in further)]
        if task.trace.cancelled:
            images = _so_far(problem, which, first, rules)
        else:
            misfit = problem.measurements.new_tensor([rule.value for rule in rules])
            rows = problem.only(which)
            # What nobody tuned does not fit as well once it is moved.
            mean = torch.where((stops > 0)[:, None, None, None], torch.stack(drawn).mean(0), first)
            images = back_project(rows, mean, error_variance(rows, misfit))
    held_out = sum(held.m for _, held in splits)
    notes = tuple(
        {
            "iteration": stop,
            "iterations": EVERY * max(0, rule.seen - 1),
            "held_out": held_out,
            "held_out_misfit": _finite(rule.value),
        }
        for stop, rule in zip(stops.tolist(), rules, strict=True)
    )
    return Tuned(images, again.drawings, stops > LATE * tuning.iterations, notes)


class _Descent:
    """Drawings that descend together, so that the operator is applied to all their images at once."""

    def __init__(
        self, problem: Problem, which: Tensor, drawings: Sequence[Drawing], tuning: Tuning, trace: Trace, phase: str
    ) -> None:
        self.problem, self.which, self.drawings, self.trace, self.phase = problem, which, drawings, trace, phase
        self.weight, rate = tuning.weight(problem), tuning.rate(problem)
        self.optimisers = [
            torch.optim.Adam([{**group, "lr": rate * group["lr"]} for group in drawing.groups()], fused=True)
            for drawing in drawings
        ]

    def images(self, places: Tensor) -> Tensor:
        """The present images of the drawings at some places, without gradients."""
        with torch.no_grad():
            return torch.cat([self.drawings[place].image() for place in places.tolist()])

    def step(self, places: Tensor) -> Tensor:
        """One iteration of the drawings at some places; returns their misfits before it, ``(places,)``."""
        which, chosen = self.which[places], places.tolist()
        images = torch.cat([self.drawings[place].image() for place in chosen])
        residual = self.problem.residual(images, which)
        misfit = self.problem.misfit(residual) / (self.problem.gain * images[0].numel())
        loss = misfit.sum() + self.weight * total_variation(images).sum()
        for place in chosen:
            self.optimisers[place].zero_grad()
        (loss * images[0].numel()).backward()  # type: ignore[no-untyped-call]
        for place in chosen:
            self.optimisers[place].step()
            self.drawings[place].project_()
        self.trace.note(self.phase, self.problem.relative_residual(residual.detach(), which), which)
        return misfit.detach()

    def descend(self, counts: Tensor, goals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Descend, every drawing its own number of iterations ``(rows,)``; returns the images and their misfits.

        Args:
            goals: ``(rows,)``, the misfits at which drawings end instead, and after twice their iterations at most.
        """
        misfits = torch.full(counts.shape, math.inf, device=counts.device)
        most = counts if goals is None else LONGER * counts
        for done in range(int(most.max())):
            places = torch.nonzero((most > done) & (misfits > (-math.inf if goals is None else goals))).flatten()
            if self.trace.cancelled or len(places) == 0:
                break
            misfits[places] = self.step(places).to(misfits)
        return self.images(torch.arange(len(self.drawings))), misfits


def _watch(fits: Sequence[_Descent], rules: Sequence[CrossValidation], iterations: int) -> None:
    """Descend in all fits until every image's rule is satisfied, and at most ``iterations``; the rules keep the
    best, which may be where the fits start.
    """
    which, trace = fits[0].which, fits[0].trace
    alive = torch.arange(len(rules), device=which.device)
    for done in range(iterations + 1):
        if len(alive) == 0 or trace.cancelled:
            return
        if done % EVERY == 0:
            images = torch.stack([fit.images(alive) for fit in fits], 1)
            trace.observe(images[:, 0], which[alive])
            finished = [rules[place].watch(rows, rows) for place, rows in zip(alive.tolist(), images, strict=True)]
            alive = alive[~torch.tensor(finished, device=alive.device)]
        if done < iterations and len(alive):
            for fit in fits:
                fit.step(alive)


def in_range(task: Task, start: Found) -> Tensor:
    """Whether the generator is known to draw each image, ``(images,)``: the search explains its measurements, and they
    are no fewer than the latents, which could explain fewer of them whatever the image."""
    every = torch.arange(task.problem.images, device=start.images.device)
    return task.problem.explained(start.residual, every) & (task.problem.m >= task.generator.latent_size)


def beyond_the_range(
    task: Task, start: Found, improve: Callable[[Found, Tensor], tuple[Tensor, Tensor, tuple[Note, ...]]]
) -> Found:
    """What a latent search found, improved where the image is not `in_range`.

    Args:
        improve: from what was found and the indices ``(rows,)`` of the images to improve to images
            ``(rows, *image_shape)``, whether each ran out of iterations, and a note for each.
    """
    problem = task.problem
    every = torch.arange(problem.images, device=start.images.device)
    done = in_range(task, start)
    which = every[~done]
    notes: list[Note] = [{"kept": "the latent search explains the measurements"} for _ in range(problem.images)]
    if len(which) == 0:
        return replace(start, notes=tuple(notes))
    found, exhausted, found_notes = improve(start, which)
    images, ran_out = start.images.clone(), torch.zeros_like(done)
    finite = found.flatten(1).isfinite().all(1)
    images[which[finite]], ran_out[which] = found[finite], exhausted
    for index, note, whole in zip(which.tolist(), found_notes, finite.tolist(), strict=True):
        notes[index] = note if whole else {**note, "kept": "the tuning diverged, so this is what the search found"}
    with torch.no_grad():
        images = images.clamp(0, 1)
        residual = problem.residual(images, every)
    status = judged(problem, residual, every, ran_out, otherwise=Status.STOPPED)
    return Found(images, residual, status, start.latents, tuple(notes), start.settings)


def found_latents(start: Found) -> Tensor:
    """The latents that a search found.

    Raises:
        ValueError: it is a search of something else.
    """
    if start.latents is None:
        raise ValueError("the search must be one for latents, got a solver without any; try LatentSearch()")
    return start.latents


def _blind_latents(task: Task, blind: Solver, which: Tensor, kept: Problem, latents: Tensor) -> Tensor:
    """``(rows, *latent_shape)`` from the measurements that are kept alone; where all is cancelled, and nothing will be
    judged, those that there are."""
    if task.trace.cancelled:
        return latents
    part = kept.only(which)
    trace = task.trace.of(which, part, "blind-search")
    return found_latents(blind.recover(replace(task, problem=part, trace=trace, restarts=None)))


def _so_far(problem: Problem, which: Tensor, images: Tensor, rules: Sequence[CrossValidation]) -> Tensor:
    """What a cancelled tuning has: ``images`` on their way on all measurements, ``(rows, *image_shape)``, or what the
    first pass chose where that misses measurements which it has not seen by less than they miss those they were fitted
    to."""
    with torch.no_grad():
        fitted = problem.misfit(problem.residual(images, which)) / problem.m
    return torch.stack(
        [
            image if rule.best is None or rule.value > misfit else rule.best.mean(0)
            for rule, image, misfit in zip(rules, images, fitted.tolist(), strict=True)
        ]
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
