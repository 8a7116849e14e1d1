"""What a search of tickets needs from whatever trains the network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cs_lip.priors.prunable import Prunable
from cs_lip.tickets.curvature import Loss


@dataclass(frozen=True)
class Level:
    """One training within a search.

    Attributes:
        index: whose mask the network is trained under, 0 for the dense network.
        of: how many levels the search has.
        steps: how many steps to make.
        horizon: over how many of them a learning rate that falls reaches its end; more than ``steps`` where the
            training is broken off, as on the way to a point to rewind to.
    """

    index: int
    of: int
    steps: int
    horizon: int


@dataclass(frozen=True)
class Step:
    """What a trainer tells after each step, or a criterion that learns a mask: how many are ``done`` of how many there
    are at most, and the loss, None where nobody knows it."""

    level: Level
    done: int
    total: int
    loss: float | None


Progress = Callable[[Step], None]


def unheard(step: Step) -> None:
    """A `Progress` that nobody follows."""


class Trainer(Protocol):
    """Moves the weights of a network that are not held at zero.

    After every step the network's `project_` puts the others back, since momentum would revive them.
    """

    @property
    def settings(self) -> Any:
        """A frozen dataclass of what its results depend on, JSON-able, besides network, level and seed."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what it trains on: teacher, pictures or measurements."""

    @property
    def count(self) -> int:
        """How many networks `train` returns."""

    def check(self, network: Prunable) -> None:
        """Refuse at once what `train` could not train.

        Raises:
            ValueError: the network is none for this trainer, or its settings make no training.
        """

    def train(self, network: Prunable, *, level: Level, seed: int, progress: Progress = unheard) -> Sequence[Prunable]:
        """The trained networks: one, or several where each was trained for a purpose of its own.

        Args:
            network: where to start; it may be changed.
            level: the training to make.
            seed: of all that is random.
            progress: called after each step.

        Raises:
            ValueError: the network is none for this trainer, or the training diverged.
        """
        ...

    def losses(self, seed: int) -> Sequence[Loss]:
        """What it minimises for each network that `train` returns, for criteria that look at a loss, with what is
        random drawn from the seed; empty where there is no such thing."""
        ...


def cosine(level: Level, done: int) -> float:
    """The factor of the learning rate after ``done`` steps, ``(1 + cos(pi done / horizon)) / 2`` (Loshchilov & Hutter,
    SGDR, ICLR 2017, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * min(1.0, done / level.horizon))) / 2


def check_finite(loss: float, level: Level, done: int) -> None:
    """Refuse to go on with a training that diverged.

    Raises:
        ValueError: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"the training under the mask of level {level.index} diverged at step {done} (loss {loss}); try a higher "
            "density, or another seed"
        )
