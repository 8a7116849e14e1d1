"""What `cs-lip restore` and `cs-lip prune` share: the untrained networks by name, with the settings of their tasks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cs_lip.cli.damage import Asked
from cs_lip.evaluation.sweep.methods import PRIORS
from cs_lip.evaluation.sweep.operators import Shape
from cs_lip.priors import SKIP_SETTINGS, UntrainedNetwork, untrained_network
from cs_lip.tickets.store import bundled_tickets, own_tickets
from cs_lip.tickets.ticket import Ticket
from cs_lip.tickets.transfer import ticketed_for

PRIOR_NAMES = ", ".join(PRIORS)


@dataclass(frozen=True)
class Prior:
    """The untrained network that was asked for, dense or a ticket's.

    Attributes:
        architecture, settings: as `untrained_network` takes them.
        ticket: whose weights and mask it has; None for a dense one.
        ticket_told: what the configuration tells of the ticket.
    """

    architecture: str
    settings: dict[str, Any]
    ticket: Ticket | None = None
    ticket_told: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.architecture.replace("_", "-")

    @property
    def told(self) -> dict[str, Any]:
        """What the configuration tells of it."""
        return {"prior": self.name, "prior_settings": self.settings} | self.ticket_told

    def network(self, image_shape: Shape, seed: int) -> UntrainedNetwork:
        """The network; a ticket's has the weights that belong to the ticket, whatever the seed."""
        if self.ticket is None:
            return untrained_network(self.architecture, image_shape, seed, **self.settings)
        return ticketed_for(self.ticket, image_shape)


def dense_prior(name: str | None, asked: Asked) -> Prior:
    """The network of that name, with the settings published for the task.

    Raises:
        ValueError: there is none.
    """
    name = "skip" if name is None else name.replace("_", "-")
    if name not in PRIORS:
        is_ticket = Path(name).is_file() or name in bundled_tickets() or name in own_tickets()
        attempt = f"--ticket {name:.120}" if is_ticket else f"one of {PRIOR_NAMES}"
        raise ValueError(f"there is no prior {name[:40]!r}; try {attempt}")
    if name != "skip" or asked.task == "denoise":
        return Prior(name.replace("-", "_"), {})
    published = "text-inpainting" if asked.mask is not None else "super-resolution"
    return Prior(name, dict(SKIP_SETTINGS[published]))
