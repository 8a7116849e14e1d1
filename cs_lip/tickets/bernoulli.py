"""Learned Bernoulli masks: which weights of a network to keep as they are, untrained, so that it draws an image.

A. Ghosh, X. Zhang, K. K. Sun, Q. Qu, S. Ravishankar & R. Wang, "Optimal Eye Surgeon: finding image priors through
sparse generators at initialization" (ICML 2024, arXiv 2406.05288).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.curvature import Loss, MaskedCopy, Scores
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.schedules import checked_density

MOST_KEPT = 1 - 1e-6
"""The highest probability to keep a weight that a divergence is taken from: that from 1 itself is infinite."""


@dataclass(frozen=True)
class BernoulliSettings:
    """How the mask is learned; the defaults are those of the authors' code, whose 60,000 steps are far more.

    Attributes:
        steps: of Adam.
        learning_rate: of Adam.
        divergence: weight of the Kullback-Leibler divergence, which is summed over all weights.
        temperature: of the relaxed masks; the closer to 0, the closer they are to zeros and ones.

    Raises:
        ValueError: one of them is not positive (the divergence: negative).
    """

    steps: int = 2000
    learning_rate: float = 1e-2
    divergence: float = 1e-9
    temperature: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what learns nothing."""
        if not (self.steps >= 1 and self.learning_rate > 0 and self.divergence >= 0 and self.temperature > 0):
            raise ValueError(
                f"a mask is learned in 1 step or more with a positive rate and temperature and a divergence from 0 on, "
                f"got {self.steps}, {self.learning_rate}, {self.temperature} and {self.divergence}; try the defaults"
            )


def bernoulli(
    network: Prunable,
    mask: Mask,
    loss: Loss,
    density: float,
    *,
    seed: int = 0,
    settings: BernoulliSettings | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Scores:
    """The logits ``l`` of the probabilities with which weights are kept, learned with the weights ``w`` as they are.

    They minimise ``E_m L(m w) + lambda KL(Ber(sigmoid(l)) || Ber(p))`` over masks ``m`` of independent zeros and ones
    (section 3), with ``p`` the density among the weights that may be kept. Each step draws one relaxed mask,
    ``sigmoid((l + log u - log(1 - u)) / T)`` with ``u`` uniform (the binary concrete distribution, which is the Gumbel
    softmax of two classes), and starts from probability 1/2. The mask is then the highest logits, as many as the
    density says: `cs_lip.tickets.selection.select`.

    Args:
        mask: of the weights that it may keep; others that it names stay zero, whatever their scores.
        loss: of the image that the network draws, such as its misfit to measurements.
        density: that the mask will have, of all weights that the present one names, below 1; so ``p`` is this over
            the density of the present one.
        seed: of the masks.
        on_step: is told after each step how many were made.

    Raises:
        ValueError: a density out of (0, 1), or a loss that is not finite.
    """
    if checked_density(density) == 1:
        raise ValueError("a learned mask has a density below 1, got 1; try 0.05")
    kept = min(density / mask.density, MOST_KEPT)
    settings = settings or BernoulliSettings()
    masked, rng = MaskedCopy(network, mask), stream(seed, "bernoulli")
    initial = {name: weight.detach().clone() for name, weight in masked.weights.items()}
    logits = {name: torch.zeros_like(value, requires_grad=True) for name, value in initial.items()}
    optimiser = torch.optim.Adam(list(logits.values()), lr=settings.learning_rate)
    for step in range(1, settings.steps + 1):
        optimiser.zero_grad()
        drawn = {name: value * _relaxed(logits[name], settings.temperature, rng) for name, value in initial.items()}
        with torch.no_grad():
            for name, weight in masked.weights.items():
                weight.copy_(drawn[name])
        # The chain rule by hand: the loss in the weights, and those in the logits.
        torch.autograd.backward(list(drawn.values()), list(masked.gradient(loss).values()))
        for name, value in logits.items():
            divergence = divergence_from(kept, value)[mask.kept[name]].sum()
            torch.autograd.backward(settings.divergence * divergence)
        optimiser.step()
        if on_step is not None:
            on_step(step)
    return {name: value.detach() for name, value in logits.items()}


def divergence_from(probability: float, logits: Tensor) -> Tensor:
    """``KL(Ber(sigmoid(l)) || Ber(probability))`` of each logit ``l``, at least 0."""
    other = torch.tensor(probability, dtype=logits.dtype, device=logits.device)
    kept = logits.sigmoid()
    return kept * (logsigmoid(logits) - other.log()) + (1 - kept) * (logsigmoid(-logits) - (1 - other).log())


def _relaxed(logits: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """A mask of numbers in (0, 1), which the logits pull towards 0 or 1."""
    # The logistic noise of a uniform number that is never 0 or 1.
    uniform = torch.rand(logits.shape, generator=rng).clamp(1e-6, 1 - 1e-6).to(logits)
    return ((logits + uniform.logit()) / temperature).sigmoid()
