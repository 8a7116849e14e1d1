"""The contract of a solver: a task in, images out."""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from cs_lip.priors import Encoder, Generator
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Status
from cs_lip.recovery.trace import Trace

Note = dict[str, Any]
"""What a solver has to say about one image besides the image, JSON-able: where it stopped, what it chose and why."""


@dataclass(frozen=True)
class Task:
    """What a solver is given.

    Attributes:
        problem: the measurements to explain.
        prior: a generator, an untrained network, or None for solvers that need neither.
        seed: solvers draw from streams of it.
        trace: where they log every iteration, and learn that they are asked to stop.
        restarts: starts an image; None for the solver's own number.
        latent_penalty: weight of |z|^2; None for the default of `pose_latents`.
        encoder: of the generator, for learned starts; None where there is none.
    """

    problem: Problem
    prior: Generator | UntrainedNetwork | None
    seed: int
    trace: Trace
    restarts: int | None = None
    latent_penalty: float | None = None
    encoder: Encoder | None = None

    def only(self, which: Tensor) -> "Task":
        """The task of some of its images, by their indices ``(count,)``."""
        return replace(self, problem=self.problem.only(which), trace=self.trace.of(which))

    @property
    def generator(self) -> Generator:
        """The prior, where it is a generator.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(self.prior, Generator):
            raise ValueError(
                f"this solver needs a generator, got {_name(self.prior)}; try load_generator(...), or another solver"
            )
        return self.prior

    @property
    def required_encoder(self) -> Encoder:
        """The encoder, for solvers that cannot do without.

        Raises:
            ValueError: there is none.
        """
        if self.encoder is None:
            raise ValueError(
                "this solver needs the learned start of the generator, got none; try `cs-lip train-start "
                "--generator NAME`, and in Python encoder=load_start(NAME)"
            )
        return self.encoder

    @property
    def network(self) -> UntrainedNetwork:
        """The prior, where it is an untrained network.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(self.prior, UntrainedNetwork):
            raise ValueError(
                f"this solver needs an untrained network, got {_name(self.prior)}; try untrained_network('skip', ...)"
            )
        return self.prior


@dataclass(frozen=True)
class Found:
    """What a solver ends with, one image a row.

    Attributes:
        images: ``(images, *A.in_shape)``.
        residual: ``(images, m)``, ``A x - y``.
        status: one an image; that the user interrupted it is added by `cs_lip.recovery.recover`.
        latents: ``(images, *latent_shape)``, where the images are a generator's.
        notes: one an image.
        settings: what the solver chose where the task left it open, JSON-able.
    """

    images: Tensor
    residual: Tensor
    status: tuple[Status, ...]
    latents: Tensor | None = None
    notes: tuple[Note, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


class Solver(Protocol):
    """An algorithm: a frozen dataclass of its settings."""

    def recover(self, task: Task) -> Found:
        """One image for every row of the problem's measurements.

        Raises:
            ValueError: the task is none for this solver.
        """
        ...


def judged(
    problem: Problem, residual: Tensor, which: Tensor, exhausted: Tensor, otherwise: Status = Status.STALLED
) -> tuple[Status, ...]:
    """The `Status` of every row from its residual: not finite, explained, out of iterations, or ``otherwise``."""
    explained = problem.explained(residual, which)
    finite = torch.isfinite(problem.misfit(residual))
    return tuple(
        Status.DIVERGED if not ok else Status.CONVERGED if fits else Status.MAX_ITERATIONS if ran_out else otherwise
        for ok, fits, ran_out in zip(finite.tolist(), explained.tolist(), exhausted.tolist(), strict=True)
    )


def _name(prior: object) -> str:
    return "none" if prior is None else f"a {type(prior).__name__}"
