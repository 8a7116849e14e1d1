"""Image-adaptive recovery: the weights of a generator tuned to the measurements of one image."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors import Generator
from cs_lip.recovery.blind_search import BlindSearch
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Found, Note, Solver, Task
from cs_lip.recovery.tuning import Drawing, Tuning, beyond_the_range, found_latents, tune

LATENT_RATE = 10.0
"""The learning rate of the latent relative to that of the weights."""

SHIFTS = ((1, 1), (-1, -1), (1, -1), (-1, 1))
"""Pixels down and to the right by which all drawings of an image but the first are moved, in this order."""


@dataclass(frozen=True)
class ImageAdaptive:
    """Latent search, and then Adam on all weights of the generator and the latent together, image by image.

    Images that the search explains down to the noise are in the generator's range and stay as they are. For the others

        min_{w, z}  rho(A G(z; w) - y) / (gain n) + total_variation TV(G(z; w))

    from the trained weights and the latent found. It is stopped where held-out measurements fit best, repeated with all
    measurements for as many iterations, and followed by a back-projection: see `Tuning`.

    A generator grows its image on grids of 2, 4, 8, ... pixels and leaves their traces where it is tuned. So there are
    several fits to all measurements, of images ``S G(z; w)`` that are moved by a pixel, and their mean is the result:
    cycle spinning (Coifman & Donoho, Translation-Invariant De-Noising, 1995).

    It departs from IAGAN as published in four places: the stop is found from the measurements instead of being a fixed
    number of iterations; total variation keeps the freed weights from fitting noise; the back-projection knows the
    noise; and there are these shifts.

    Cost beside the searches: an iteration is one forward and backward pass of the generator with the gradients of its
    weights, and one application of A and its adjoint; some hundred iterations, once for each part of the measurements
    that is held out and once for each shift. Memory: as many copies of the generator for each image, and Adam's two
    moments.

    Source: Hussein, Tirer & Giryes, Image-Adaptive GAN based Reconstruction, AAAI 2020 (IAGAN), section 3; Bojanowski
    et al. 2018 and Pan et al. 2020 tune weights likewise.

    Attributes:
        search: finds the latents to start from.
        blind: finds those for the fits that hold measurements out, from what these keep.
        tuning: of weights and latents.
        shifts: how many fits to all measurements, of 1 to 5 shifts, the first of which is none.
        moving: which weights move, parameter name of the folded generator -> bool tensor of its shape; the others, and
            those of parameters that it does not name, stay where they are, which need not be zero. None for all. Where
            not all move, by this or in a ticket, whose zeros stay, those that do have a higher learning rate, by which
            the misfit falls as fast at first as if all moved at that of `tuning`.

    Raises:
        ValueError: another number of shifts.
    """

    search: Solver = field(default_factory=LatentSearch)
    tuning: Tuning = field(default_factory=Tuning)
    shifts: int = 3
    moving: Mapping[str, Tensor] | None = None
    blind: Solver = field(default_factory=BlindSearch)

    def __post_init__(self) -> None:
        """Refuse shifts that there are not."""
        if not 1 <= self.shifts <= len(SHIFTS) + 1:
            raise ValueError(f"the shifts must be 1 to {len(SHIFTS) + 1}, got {self.shifts}; try 3")

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: the weights that move are not those of the generator; as `Tuning.splits`.
        """
        # Now, since the search takes its time.
        _check_moving(self.moving, task.generator.fold())
        self.tuning.splits(task)
        return self.improved(task, self.search.recover(task))

    def improved(self, task: Task, start: Found) -> Found:
        """What a search of latents has found already, improved.

        Raises:
            ValueError: as `recover`.
        """
        generator = task.generator.fold()
        _check_moving(self.moving, generator)

        def improve(start: Found, which: Tensor) -> tuple[Tensor, Tensor, tuple[Note, ...]]:
            latents = found_latents(start)[which]
            rates = [
                _rate(generator, latent[None], self.moving, partial(_misfit, task.problem, row[None]))
                for latent, row in zip(latents, which, strict=True)
            ]

            def centred(latents: Tensor) -> list[Weights]:
                pairs = zip(latents, rates, strict=True)
                return [Weights(generator, latent[None], self.moving, rate) for latent, rate in pairs]

            def moved(shift: tuple[int, int], onto: Tensor) -> list[Drawing]:
                pairs = zip(centred(latents), onto, strict=True)
                return [Shifted(drawing, shift, image[None]) for drawing, image in pairs]

            others = [partial(moved, shift) for shift in SHIFTS[: self.shifts - 1]]
            tuned = tune(
                task, which, latents, centred, self.tuning, blind=self.blind, phase="image-adaptive", others=others
            )
            return tuned.images, tuned.exhausted, tuned.notes

        return beyond_the_range(task, start, improve)


class Weights(Drawing):
    """An image whose generator's weights move, and its latent ``(1, *latent_shape)``; the generator itself is left
    alone. For ``moving`` see `ImageAdaptive`; ``rate`` is the learning rate of the weights, relative to the solver's.
    """

    def __init__(
        self, generator: Generator, latent: Tensor, moving: Mapping[str, Tensor] | None = None, rate: float = 1.0
    ) -> None:
        self.generator, self.rate = copy.deepcopy(generator).requires_grad_(moving is None), rate
        self.latent = latent.clone().requires_grad_()
        for name, moves in (moving or {}).items():
            weights = self.generator.get_parameter(name).requires_grad_()
            # Adam leaves a weight exactly where it is whose gradient was always zero.
            weights.register_hook(partial(torch.mul, moves.to(weights.device)))  # type: ignore[no-untyped-call]

    def groups(self) -> list[dict[str, Any]]:
        """See `Drawing`."""
        return [
            {"params": [weights for weights in self.generator.parameters() if weights.requires_grad], "lr": self.rate},
            {"params": [self.latent], "lr": LATENT_RATE},
        ]

    def image(self) -> Tensor:
        """See `Drawing`."""
        image: Tensor = self.generator(self.latent)
        return image

    def project_(self) -> None:
        """See `Drawing`: of a ticket only the surviving weights move."""
        self.generator.project_()


class Shifted(Drawing):
    """Another drawing, `shifted` onto an image ``(1, *image_shape)`` that stays as it is."""

    def __init__(self, drawing: Drawing, shift: tuple[int, int], onto: Tensor) -> None:
        self.drawing, self.shift, self.onto = drawing, shift, onto

    def groups(self) -> list[dict[str, Any]]:
        """See `Drawing`."""
        return self.drawing.groups()

    def image(self) -> Tensor:
        """See `Drawing`."""
        return shifted(self.drawing.image(), self.shift, self.onto)

    def project_(self) -> None:
        """See `Drawing`."""
        self.drawing.project_()


def _misfit(problem: Problem, which: Tensor, images: Tensor) -> Tensor:
    return problem.misfit(problem.residual(images, which)).sum()


def _rate(
    generator: Generator, latent: Tensor, moving: Mapping[str, Tensor] | None, misfit: Callable[[Tensor], Tensor]
) -> float:
    """How many times as fast as all weights those that may move have to go, for the misfit to fall as fast at first.

    A first step of Adam moves every weight by the learning rate against the sign of its gradient, which lowers the
    misfit by the learning rate times the sum of the magnitudes of all gradients. 1 where no weight may move.
    """
    if moving is None and not generator.kept:
        return 1.0
    dense = copy.deepcopy(generator).requires_grad_(True)
    named = dict(dense.named_parameters())
    slopes = torch.autograd.grad(misfit(dense(latent)), list(named.values()), materialize_grads=True)
    sizes = {name: slope.abs() for name, slope in zip(named, slopes, strict=True)}
    chosen = (
        sizes if moving is None else {name: sizes[name] * moves.to(latent.device) for name, moves in moving.items()}
    )
    free = [values * dense.kept.get(name, 1) for name, values in chosen.items()]
    whole, part = (float(sum(values.sum() for values in group)) for group in (sizes.values(), free))
    return whole / part if 0 < part <= whole < math.inf else 1.0


def _check_moving(moving: Mapping[str, Tensor] | None, generator: Generator) -> None:
    shapes = {name: tuple(weights.shape) for name, weights in generator.named_parameters()}
    for name, moves in (moving or {}).items():
        if moves.dtype != torch.bool or tuple(moves.shape) != shapes.get(name):
            there = shapes.get(name, "which has no such weights")
            raise ValueError(
                f"the weights that move were given as {moves.dtype} of shape {tuple(moves.shape)} for {name!r:.80}, "
                f"expected bools of the shape in the folded generator, {there}; "
                "try the names and shapes of generator.fold()"
            )


def shifted(images: Tensor, shift: tuple[int, int], onto: Tensor) -> Tensor:
    """Images ``(..., height, width)`` moved by so many pixels down and to the right, onto others that show where they
    leave them bare.
    """
    bare = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    for axis, pixels in enumerate(shift):
        edge = slice(0, pixels) if pixels >= 0 else slice(pixels, None)
        bare.transpose(0, axis)[edge] = True
    return torch.where(bare, onto, images.roll(shift, (-2, -1)))
