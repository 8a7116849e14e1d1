"""What a recovery is: images, the latents that draw them, and how the solver got there."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import Tensor


class Status(StrEnum):
    """How the search for one image ended. The value is the short name; `message` says what it means and what to try."""

    CONVERGED = "converged"
    STALLED = "stalled"
    MAX_ITERATIONS = "max_iterations"
    DIVERGED = "diverged"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "The image explains the measurements down to the noise.",
    Status.STALLED: "No step improves the fit, yet the measurements are not explained: the image is outside the "
    "generator's range, or every start ended in a local minimum; try more restarts, and of noisy measurements to state "
    "the noise.",
    Status.MAX_ITERATIONS: "The iterations ran out before the fit had come to its end; try another solver, or more "
    "iterations in Python.",
    Status.DIVERGED: "The search met values that are not finite; try a smaller learning rate or rescaled measurements.",
    Status.STOPPED: "The fit was stopped where going on would have fitted noise in the place of the image; try more or "
    "cleaner measurements for a closer image.",
    Status.INTERRUPTED: "The recovery was interrupted and this is the best image so far; try to let it run to its end.",
}


@dataclass(frozen=True)
class Record:
    """One iteration of one phase.

    Attributes:
        phase: the solver's phase, such as ``adam`` or ``levenberg-marquardt``.
        iteration: counts from 1 within the phase.
        seconds: wall time since the recovery began.
        relative_residual: for every image |A G(z) - y| / |y| of the best row of this iteration; NaN where the
            iteration did not work on that image.
    """

    phase: str
    iteration: int
    seconds: float
    relative_residual: tuple[float, ...]


@dataclass(frozen=True)
class Recovery:
    """Recovered images and how they came about.

    Attributes:
        images: ``(images, channels, height, width)`` in [0, 1].
        latents: ``(images, *latent_shape)`` of solvers that search for them, else None. ``generator(latents)`` draws
            the images of a latent search; other solvers went on from there.
        relative_residual: |A x - y| / |y| of every image, as the solver left it.
        status: one `Status` an image.
        notes: of every image what else the solver has to say, JSON-able: where it stopped, what it chose and why.
        history: a `Record` an iteration.
        timings: wall seconds of every phase, and ``total``.
        configuration: the arguments that made it: solver and its settings, restarts, seed, noise, penalty.
    """

    images: Tensor
    latents: Tensor | None
    relative_residual: tuple[float, ...]
    status: tuple[Status, ...]
    notes: tuple[dict[str, Any], ...]
    history: tuple[Record, ...]
    timings: dict[str, float]
    configuration: dict[str, object]
