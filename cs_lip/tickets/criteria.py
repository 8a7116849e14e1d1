"""Criteria: scores of weights, higher = keep, by name.

Each is a pure function of a network and a mask. It scores the network with the mask applied, for the weights that the
mask names, and leaves network and mask as they were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.bernoulli import BernoulliSettings, bernoulli
from cs_lip.tickets.curvature import Loss, Scores, grasp, sensitivity, snip, taylor
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.synflow import synflow


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at beside the network.

    Attributes:
        loss: how badly a network does, for criteria that ask for one.
        density: that the mask will have.
        seed: of what a criterion draws.
        batches: how often a criterion that adds up calls the loss, which may draw another batch each time.
        learning: of a mask that is learned.
        on_step: is told after each step of that how many were made.
    """

    loss: Loss | None = None
    density: float = 0.2
    seed: int = 0
    batches: int = 10
    learning: BernoulliSettings = field(default_factory=BernoulliSettings)
    on_step: Callable[[int], None] | None = None

    @property
    def needed_loss(self) -> Loss:
        """The loss.

        Raises:
            ValueError: there is none.
        """
        if self.loss is None:
            raise ValueError("this criterion scores weights by a loss, got none; try 'magnitude', which needs none")
        return self.loss


Criterion = Callable[[Prunable, Mask, Evidence], Scores]


def magnitude(network: Prunable, mask: Mask) -> Scores:
    """``|w|``, of the weights as they are stored: a norm or an equalised learning rate behind them plays no part."""
    return {name: network.get_parameter(name).detach().abs() * kept for name, kept in mask.kept.items()}


def random(mask: Mask, seed: int = 0) -> Scores:
    """Uniform in [0, 1), a stream of its own for each layer."""
    return {
        name: torch.rand(kept.shape, generator=stream(seed, f"random-scores/{name}")).to(kept.device)
        for name, kept in mask.kept.items()
    }


BY_LOSS = ("snip", "grasp", "taylor", "bernoulli")
"""Criteria that look at a loss."""

IN_UNITS_OF_A_LOSS = ("snip", "grasp", "taylor")
"""Criteria whose scores are as large as the loss is."""

AT_INITIALISATION = ("snip", "grasp", "synflow", "bernoulli")
"""Criteria that their authors apply to weights that nothing has trained yet."""

CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "magnitude": lambda network, mask, given: magnitude(network, mask),
        "random": lambda network, mask, given: random(mask, given.seed),
        "snip": lambda network, mask, given: snip(network, mask, given.needed_loss),
        "grasp": lambda network, mask, given: grasp(network, mask, given.needed_loss),
        "synflow": lambda network, mask, given: synflow(network, mask),
        "taylor": lambda network, mask, given: taylor(network, mask, given.needed_loss, given.batches),
        "sensitivity": lambda network, mask, given: sensitivity(network, mask, given.seed),
        "bernoulli": lambda network, mask, given: bernoulli(
            network,
            mask,
            given.needed_loss,
            given.density,
            seed=given.seed,
            settings=given.learning,
            on_step=given.on_step,
        ),
    }
)
"""Every criterion by name.

The scores of ``synflow`` are meant for many small rounds (`cs_lip.tickets.synflow.synflow_mask`), and those of
``bernoulli`` take a whole optimisation.
"""


def score(criterion: str, network: Prunable, mask: Mask, evidence: Evidence | None = None) -> Scores:
    """The scores of a criterion by name, one tensor of its shape for each parameter that the mask names.

    Raises:
        ValueError: no such criterion, a mask that does not fit, or a criterion that asks for a loss and gets none.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"there is no criterion {str(criterion)[:40]!r}; try one of {', '.join(CRITERIA)}")
    wrong = mask.mismatches(network)
    if wrong:
        raise ValueError(f"the mask does not fit the network: {wrong[0]:.160}; try a mask of this network")
    return CRITERIA[criterion](network, mask, evidence or Evidence())
