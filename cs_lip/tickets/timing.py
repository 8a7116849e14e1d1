"""How long a prior takes to draw and to be differentiated, and what share of it an operator has."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from cs_lip.priors.generator import Generator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.seeding import stream

BATCH = 10
"""As many latents as a recovery of one image searches from."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds, medians over repeats.

    Attributes:
        batch: images drawn at once.
        forward_ms: from latents, or weights, to images.
        backward_ms: from the images' gradient to that of the latents, or of the weights.
        operator_ms: through an operator and back, for as many images; 0 without one.
    """

    batch: int
    forward_ms: float
    backward_ms: float
    operator_ms: float = 0.0

    @property
    def operator_share(self) -> float:
        """The operator's part of a step of a search, in [0, 1)."""
        return self.operator_ms / (self.forward_ms + self.backward_ms + self.operator_ms)


def time_prior(
    network: Prunable,
    batch: int | None = None,
    *,
    repeats: int = 20,
    operator: Callable[[Tensor], Tensor] | None = None,
) -> Timing:
    """Time a generator as a search runs it, folded and by its latents, or an untrained network by its weights.

    Args:
        batch: images at once; None for 10 of a generator and 1 of an untrained network.
        repeats: of which the median is taken, after one that does not count.
        operator: maps images ``(batch, *image_shape)`` to measurements.

    Raises:
        ValueError: the batch or the repeats are not positive, or the network is neither of the two.
    """
    if min(repeats, 1 if batch is None else batch) < 1:
        raise ValueError(f"batch and repeats must be positive, got {batch} and {repeats}; try 10 and 20")
    if isinstance(network, Generator):
        batch = BATCH if batch is None else batch
        folded = network.fold()
        points = [folded.sample_latents(batch, generator=stream(0, "timing")).requires_grad_()]
        forward, backward = _medians(lambda: folded(points[0]), points, repeats)
    elif isinstance(network, UntrainedNetwork):
        batch = 1 if batch is None else batch
        inputs = network.sample_input(generator=stream(0, "timing")).repeat(batch, 1, 1, 1)
        points = [weight for weight in network.parameters() if weight.requires_grad]
        forward, backward = _medians(lambda: network(inputs), points, repeats)
    else:
        raise ValueError(f"a {type(network).__name__:.40} is no prior that can be timed; try a generator")
    if operator is None:
        return Timing(batch, forward, backward)
    images = torch.rand(batch, *network.image_shape, generator=stream(0, "images"))
    images = images.to(network.device, network.dtype).requires_grad_()
    return Timing(batch, forward, backward, sum(_medians(lambda: operator(images), [images], repeats)))


def _medians(draw: Callable[[], Tensor], points: list[Tensor], repeats: int) -> tuple[float, float]:
    """Milliseconds forward and backward."""
    forward, backward = [], []
    for _ in range(repeats + 1):
        start = _now(points[0])
        drawn = draw()
        middle = _now(points[0])
        torch.autograd.grad(drawn, points, torch.ones_like(drawn))
        forward.append(1000 * (middle - start))
        backward.append(1000 * (_now(points[0]) - middle))
    return median(forward[1:]), median(backward[1:])


def _now(beside: Tensor) -> float:
    """The time at which a device has done all that it was given."""
    if beside.device.type == "cuda":
        torch.cuda.synchronize(beside.device)
    return time.perf_counter()
