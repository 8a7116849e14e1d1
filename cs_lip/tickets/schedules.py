"""Schedules: how dense a ticket is after each round of a search."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

RATIO = 0.8
"""What the paper keeps of the remaining weights in each round (Wu et al., TMLR 2023, section 3)."""

MOST_ROUNDS = 10_000


def densities(schedule: str, final: float, rounds: int | None = None) -> tuple[float, ...]:
    """The density after each round, of all weights, never rising and ending in exactly ``final``.

    With ``n`` rounds, ``t = 1 ... n`` and the final density ``d``:

    - ``one-shot``: ``d``, in one round;
    - ``geometric``: ``d^(t/n)``, the same fraction of what is left in each round (Frankle & Carbin, ICLR 2019);
    - ``cubic``: ``d + (1 - d)(1 - t/n)^3``, much at first and little in the end (Zhu & Gupta 2017, arXiv 1710.01878,
      equation 1, from sparsity 0 on).

    Args:
        schedule: a name of `SCHEDULES`.
        final: in (0, 1].
        rounds: ``n``. None for as many as pruning to 0.8 of what is left needs; ``geometric`` then has the densities
            0.8, 0.64, ... of the paper, and the last round prunes less.

    Raises:
        ValueError: no such schedule, a density out of range, or a number of rounds that it cannot have.
    """
    checked_density(final)
    if schedule not in SCHEDULES:
        raise ValueError(f"there is no schedule {str(schedule)[:40]!r}; try one of {', '.join(SCHEDULES)}")
    if rounds is None:
        return (*_by_ratio(schedule, final), final)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MOST_ROUNDS:
        raise ValueError(f"the rounds must be a whole number from 1 to {MOST_ROUNDS}, got {rounds!s:.40}; try 7")
    if schedule == "one-shot" and rounds > 1:
        raise ValueError(f"one shot is one round, got {rounds}; try the schedule 'geometric'")
    after = SCHEDULES[schedule]
    return (*(after(final, step / rounds) for step in range(1, rounds)), final)


def checked_density(density: float) -> float:
    """A density.

    Raises:
        ValueError: it is not a number in (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"the density must be above 0 and at most 1, got {density}; try 0.2")
    return density


def _by_ratio(schedule: str, final: float) -> tuple[float, ...]:
    """All densities but the last in as many rounds as the paper's ratio needs."""
    # 0.8^k needs k rounds, not one more for the rounding of its logarithm.
    rounds = max(1, math.ceil(math.log(final) / math.log(RATIO) - 1e-9))
    if schedule == "geometric":
        return tuple(RATIO**step for step in range(1, rounds))
    return () if schedule == "one-shot" else densities(schedule, final, rounds)[:-1]


SCHEDULES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "one-shot": lambda final, done: final,
        "geometric": lambda final, done: final**done,
        "cubic": lambda final, done: final + (1 - final) * (1 - done) ** 3,
    }
)
"""The density for a final one, when this fraction of the rounds is done."""
