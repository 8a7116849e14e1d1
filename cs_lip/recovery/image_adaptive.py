"""Image-adaptive recovery: the weights of a generator tuned to the measurements of one image."""

import copy
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cs_lip.priors import Generator
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.solver import Found, Note, Solver, Task
from cs_lip.recovery.tuning import Drawing, Tuning, beyond_the_range, found_latents, tune

LATENT_RATE = 10.0
"""The learning rate of the latent relative to that of the weights."""


@dataclass(frozen=True)
class ImageAdaptive:
    """Latent search, and then Adam on all weights of the generator and the latent together, image by image.

    Images that the search explains down to the noise are in the generator's range and stay as they are. For the others

        min_{w, z}  rho(A G(z; w) - y) / (gain n) + total_variation TV(G(z; w))

    from the trained weights and the latent found. It is stopped where held-out measurements fit best, repeated with all
    measurements for as many iterations, and followed by a back-projection: see `Tuning`.

    It departs from IAGAN as published in three places: the stop is found from the measurements instead of being a fixed
    number of iterations; total variation keeps the freed weights from fitting noise; and the back-projection knows the
    noise.

    Cost beside the search: an iteration is one forward and backward pass of the generator with the gradients of its
    weights, and one application of A and its adjoint; some hundred iterations, twice. Memory: two copies of the
    generator and Adam's two moments for each image.

    Source: Hussein, Tirer & Giryes, Image-Adaptive GAN based Reconstruction, AAAI 2020 (IAGAN), section 3; Bojanowski
    et al. 2018 and Pan et al. 2020 tune weights likewise.

    Attributes:
        search: finds the latents to start from.
        tuning: of weights and latents.
    """

    search: Solver = field(default_factory=LatentSearch)
    tuning: Tuning = field(default_factory=Tuning)

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`."""
        generator = task.generator.fold()

        def improve(start: Found, which: Tensor) -> tuple[Tensor, Tensor, tuple[Note, ...]]:
            latents = found_latents(start)[which]
            tuned = tune(
                task,
                which,
                lambda: [Weights(generator, latent[None]) for latent in latents],
                self.tuning,
                phase="image-adaptive",
            )
            return tuned.images, tuned.exhausted, tuned.notes

        return beyond_the_range(task, self.search.recover(task), improve)


class Weights(Drawing):
    """An image whose generator's weights move, and its latent ``(1, *latent_shape)``; the generator itself is left
    alone.
    """

    def __init__(self, generator: Generator, latent: Tensor) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(True)
        self.latent = latent.clone().requires_grad_()

    def groups(self) -> list[dict[str, Any]]:
        """See `Drawing`."""
        return [
            {"params": list(self.generator.parameters()), "lr": 1.0},
            {"params": [self.latent], "lr": LATENT_RATE},
        ]

    def image(self) -> Tensor:
        """See `Drawing`."""
        image: Tensor = self.generator(self.latent)
        return image

    def project_(self) -> None:
        """See `Drawing`: of a ticket only the surviving weights move."""
        self.generator.project_()
