"""What a search for tickets does."""

from dataclasses import dataclass
from typing import Literal, get_args

from cs_lip.tickets.criteria import CRITERIA
from cs_lip.tickets.mask import DEFAULT_ROLES
from cs_lip.tickets.schedules import densities

Rewind = Literal["start", "step", "learning-rate"]
"""To which weights a network goes back before it is trained under its next mask."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search does, but for the training.

    Attributes:
        density: of the ticket that the search ends with.
        rounds: how many levels lead there; None for as many as the schedule needs (`cs_lip.tickets.schedules`).
        schedule: ``one-shot``, ``geometric`` or ``cubic``.
        criterion: a name of `cs_lip.tickets.criteria.CRITERIA`.
        granularity: ``weight``, ``kernel`` or ``channel``.
        allocation, floor: how the density is shared among the layers, and the least fraction of each that is kept; see
            `cs_lip.tickets.selection.select` and `cs_lip.tickets.channels.channel_mask`. Without a word it is
            ``global``, but ``uniform`` for channels: one threshold for all channels can leave a bottleneck (39 of the
            256 channels behind the face generator's second layer at density 0.2).
        roles: of the weights that may be pruned, `cs_lip.priors.prunable.Prunable.weight_groups`; a channel mask
            names those that `cs_lip.tickets.channels.dense_channels` does.
        rewind: before each training the surviving weights go back to those that the network came with (``start``), to
            those that it had after ``rewind_step`` steps of dense training (``step``: Frankle, Dziugaite, Roy & Carbin,
            ICML 2020, whose schedule of the learning rate goes on from that step, where it begins anew here), or stay,
            and only the learning rate begins anew (``learning-rate``: Renda, Frankle & Carbin, ICLR 2020).
        rewind_step: see there.
        trained: the network comes trained, so that the first level scores it as it is.
        at_initialisation: the levels score the weights that the network came with, and train nothing, as the authors of
            the criteria in `cs_lip.tickets.criteria.AT_INITIALISATION` do. Needs the rewinding ``start``.
        steps: of each training.
        final_steps: of the training under the last mask, whose weights the ticket keeps; 0 for a ticket that is to be
            trained by who uses it.
        seed: of everything random.
    """

    density: float
    rounds: int | None = None
    schedule: str = "geometric"
    criterion: str = "magnitude"
    granularity: str = "weight"
    allocation: str = ""
    floor: float = 0.0
    roles: tuple[str, ...] = DEFAULT_ROLES
    rewind: Rewind = "start"
    rewind_step: int = 0
    trained: bool = False
    at_initialisation: bool = False
    steps: int = 500
    final_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that make no search."""
        if not self.allocation:
            object.__setattr__(self, "allocation", "uniform" if self.granularity == "channel" else "global")
        densities(self.schedule, self.density, self.rounds)
        for name, least in (("steps", 1), ("final_steps", 0), ("rewind_step", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"the {name.replace('_', ' ')} must be a whole number from {least} on, got {value!r:.40}; try 500"
                )
        if self.criterion not in CRITERIA:
            raise ValueError(f"there is no criterion {self.criterion!r:.40}; try one of {', '.join(CRITERIA)}")
        if self.criterion == "bernoulli" and self.density == 1:
            raise ValueError("a learned mask has a density below 1, got 1; try 0.05")
        if self.granularity == "channel" and self.roles != DEFAULT_ROLES:
            raise ValueError(
                "whole channels reach from the first layer to the last, so they take no roles; try without, or the "
                "granularity 'weight'"
            )
        if self.at_initialisation and (self.trained or self.rewind != "start"):
            raise ValueError(
                "scores at initialisation need the initial weights at every level; try the rewinding 'start' of a "
                "network that is not trained"
            )
        if self.rewind not in get_args(Rewind):
            raise ValueError(f"there is no rewinding to {self.rewind!r:.40}; try one of {', '.join(get_args(Rewind))}")
        if (self.rewind == "step") != (self.rewind_step > 0) or self.rewind_step > self.steps:
            raise ValueError(
                f"rewinding to {self.rewound_to!r} and a rewind step of {self.rewind_step} of {self.steps} do not go "
                "together; try the rewinding 'step' (--rewind step) with a step from 1 to the number of steps "
                "(--rewind-step 100)"
            )

    @property
    def densities(self) -> tuple[float, ...]:
        """Of the levels, one after the other."""
        return densities(self.schedule, self.density, self.rounds)

    @property
    def rewound_to(self) -> str:
        """The rewind point in the words of a ticket."""
        if self.rewind == "start":
            return "pretrained" if self.trained else "initial"
        return f"step {self.rewind_step}" if self.rewind == "step" else self.rewind
